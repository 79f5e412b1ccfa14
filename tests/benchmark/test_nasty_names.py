"""Texts that steer, hide, turn or compute: every output shows each of them sign by sign.

Plugins of such names are refused, but folders and records come from other people too.
"""

import csv
import io
import re

import pandas as pd
import pytest
from rich.console import Console

from benchmark.commands.plans import show_cells
from benchmark.intake.inspect import Finding
from benchmark.intake.inspect import to_csv as findings_csv
from benchmark.mirror.nodes import cell_node, node_of, texts
from benchmark.models import answers
from benchmark.models.images import Item
from benchmark.models.index import About
from benchmark.report import page
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan
from benchmark.study.spending import Spending
from benchmark.tables import costs, formats
from benchmark.tables.csv_files import to_csv
from benchmark.tables.frames import make_tables
from protocols.names import one_line
from tests.benchmark.tables.test_frames import make

NASTY = (
    *("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "a\nb", "a\x1b[31mred", "a\x07", "a\x9b2K"),
    *("\u202egnp.exe", "a\u2066b", "a\u200fb", "a\u200bb", "a\u200db", "\ufeffa"),
    *("a\u3164b", "a\u2028b"),
    *("001", "1e5", "nan", "TRUE", "NULL", "'quoted", "<script>alert(1)", "a|b", "a&b%$#_{}~^\\"),
    *("[red]x", "[link=file:x]y", "`code`", 'quo"te', "\\input{x}"),
)  # fmt: skip
NAMES = tuple(text for text in NASTY if "/" not in text)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    keys = {}
    for number, text in enumerate(NAMES):
        keys[CellKey(f"{number:08}", text, text, text, text, text)] = [0.4, 0.5, "oom"]
    return make(tmp_path_factory.mktemp("nasty") / "out", keys)


@pytest.fixture(scope="module")
def tables(study):
    return make_tables(study)


def assert_seen(text):
    """Every sign of ``text`` can be seen; lines of its own it may have."""
    assert not [c for c in text if c != "\n" and one_line(c) != c]


def assert_read_as_text(content, columns, expected):
    """No field is a formula, and texts come back as docs/study.md says."""
    text = content.decode()
    for row in csv.reader(io.StringIO(text)):
        for field in row:
            assert_seen(field)
            assert "\n" not in field
            assert field[:1] not in tuple("=@\t\r")
            assert field[:1] not in tuple("+-") or re.fullmatch(r"-[\d.e-]+", field)
    found = pd.read_csv(io.StringIO(text))
    for column in columns:
        read = found[column].str.replace("^'", "", regex=True)
        assert set(read) == set(map(one_line, expected))


def test_tables_as_csv(tables):
    for name in tables.names:
        columns = ("dataset", "trunk", "recipe", *(["method"] if name != "pairs" else []))
        if len(frame := getattr(tables, name)):
            assert_read_as_text(to_csv(frame), columns, NAMES)
    assert_read_as_text(
        to_csv(costs.frame(tables.cells, Spending(()))), ("method", "dataset"), NAMES
    )


def test_findings_and_answers_as_csv(tmp_path):
    findings = [Finding("leak", text, text) for text in NASTY]
    assert_read_as_text(findings_csv(findings), ("path", "detail"), NASTY)
    about = About("m", "0", "mine", by_angle=True, size=3, images=1, vectors_sha256="",
                  images_sha256="")  # fmt: skip
    asked = [
        answers.Asked(Item(tmp_path / f"q{text}", text), (
            answers.Answer(1, Item(tmp_path / f"a{text}", text), 0.5, True),
        ))
        for text in NASTY
    ]  # fmt: skip
    assert_read_as_text(answers.to_csv(about, asked), ("query_label", "label"), NASTY)
    shown = answers.to_html(about, asked).decode()
    assert_seen(shown)
    assert "<script>alert" not in shown


def test_markdown(tables):
    (content,) = formats.to_format(tables, "md").values()
    text = content.decode()
    assert_seen(text)
    assert not re.search(r"(?<!\\)<script>", text)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 * len(NAMES)  # a head and a row each: no name began another line
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows[::2]} == {
        len(re.findall(r"(?<!\\)\|", row)) for row in rows[1::2]
    }


def test_latex(tables):
    files = formats.to_format(tables, "latex")
    assert_seen(files.pop("references.bib").decode())
    (content,) = files.values()
    text = content.decode()
    assert_seen(text)
    assert r"\input" not in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(NAMES)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_report(tables):
    shown = page.render(tables)
    assert_seen(shown)
    assert "<script" not in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_terminal(study, tables, terminal):
    plain = io.StringIO()
    console = Console(file=plain, width=200, force_terminal=terminal, color_system=None)
    for part in (
        *formats.render(tables),
        *costs.render(costs.frame(tables.cells, Spending(())), ""),
    ):
        console.print(part)
    plans = [
        CellPlan(cell, trials=1, trials_done=0, runs=1, runs_done=0, jobs_left=1, chosen=False)
        for cell in study.cells
    ]
    show_cells(console, study, plans)
    text = re.sub(r"\x1b\[[\d;]*m", "", plain.getvalue())  # bold and dim are the program's
    assert_seen(text)
    assert "[red]x" in text


def test_mlflow(study):
    for cell in study.cells:
        nodes = [cell_node(study, cell)]
        records = (*study.trials(cell), *study.runs(cell))
        nodes += [node_of(study, cell, record) for record in records]
        for node in nodes:
            assert_seen(node.name)
            for value in (*node.tags.values(), *texts(node.settings).values()):
                assert_seen(value)
                assert "\n" not in value
