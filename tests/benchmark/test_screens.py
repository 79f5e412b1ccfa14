"""What a person sees of each command: soon, within the width, and true to the word."""

import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.cli import main, make_parser
from benchmark.commands.lines import Tables, counted
from benchmark.examples import EXAMPLES
from benchmark.study.folder import Study, load_study
from benchmark.study.rules import check_same_rules
from benchmark.study.spending import spending
from benchmark.tables import costs, formats
from benchmark.tables.frames import make_tables
from protocols.errors import StoreError
from protocols.knobs import changed
from protocols.specs.toy import PROTOCOL

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("torch", "mlflow", "optuna", "matplotlib", "pandas", "faiss", "onnxruntime", "ray")
# Runs a command up to its first line, then says which packages are loaded by then.
FIRST_LINE = """
import os, sys
class First:
    encoding = "utf-8"
    def isatty(self): return False
    def flush(self): pass
    def write(self, text):
        if text.strip():
            os.write(1, " ".join(sorted(set(%r) & set(sys.modules))).encode())
            os._exit(0)
sys.stdout = sys.stderr = First()
from benchmark.cli import main
main(sys.argv[1:])
"""


def commands(parser, *words):
    """Yield the words of every command with its parser."""
    yield " ".join(words), parser
    for action in parser._actions:
        for name, inner in (action.choices or {}).items() if action.nargs == "A..." else ():
            yield from commands(inner, *words, name)


COMMANDS = dict(commands(make_parser()))


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "plan --protocol toy --methods ms",
        "run --protocol toy --methods ms",
        "run --protocol toy --methods triplet,ms --out {study}",
        "tables --out {study}",
        "report --out {study}",
        "sync --out {study}",
        "verify {root}/results",
        "data list",
        "list",
        "check ms",
        "new-study x.toml",
        "export ms --to x.safetensors --out {study}",
        "embed x.safetensors {root}/results/emoji-classes.png --to x.npy",
        "index x.safetensors {root}/results/emoji-classes.png --to x",
        "evaluate x.safetensors {root}/results/emoji-classes.png",
        "reproduce --out {study}",
        "reproduce --table published",
    ],
)
def test_the_first_line_waits_for_no_large_package(words, toy_study, tmp_path):
    typed = shlex.split(words.format(study=toy_study, root=ROOT))
    started = [sys.executable, "-c", FIRST_LINE % (HEAVY,), *typed]
    done = subprocess.run(
        started, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_command_has_examples():
    assert set(EXAMPLES) == set(COMMANDS)
    assert all(EXAMPLES.values())


@pytest.mark.parametrize("command", EXAMPLES)
def test_examples_are_understood_and_fit_the_width(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = COMMANDS[command].format_help().splitlines()
    for words in EXAMPLES[command]:
        typed = shlex.split(f"{command} {words}")
        assert make_parser().parse_args(typed).command
        line = "  " + " ".join(["python -m benchmark", *typed])
        assert line in shown
        assert len(line) <= 80


@pytest.mark.parametrize(
    ("started", "said"),
    [
        ("/usr/bin/dml-benchmark", "dml-benchmark"),
        ("C:\\x\\dml-benchmark.exe".replace("\\", "/"), "dml-benchmark"),
        ("/x/benchmark/__main__.py", "python -m benchmark"),
    ],
)
def test_help_says_how_it_was_started(started, said, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started])
    with pytest.raises(SystemExit):
        main(["data", "list", "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: {said} data list ")
    assert f"  {said} data list --root data" in printed
    assert main(["tables", "--outt"]) == 2
    assert f"See: {said} tables --help" in capsys.readouterr().err


def other_rules(tmp_path, **changes):
    asked = changed(PROTOCOL, {key.replace("__", "."): value for key, value in changes.items()})
    with pytest.raises(StoreError) as raised:
        check_same_rules(Study(tmp_path, PROTOCOL), asked)
    return raised.value


def test_one_rule_that_differs_stands_in_the_line(tmp_path):
    error = other_rules(tmp_path, image__crop_px=12)
    assert "other rules (image.crop_px: 16 here, 12 asked for)" in str(error)
    assert not error.lines


def test_rules_that_differ_stand_one_a_line(tmp_path):
    changes = {"image__crop_px": (12, 8), "recipe__lr": 0.5, "method__ms__beta": 40.0}
    error = other_rules(tmp_path, **changes)
    assert "under other rules (3 of them, below)" in str(error)
    assert sorted(error.lines) == [
        "image.crop_px: 16 here, [12, 8] asked for",
        "method.ms.beta: not set here, 40.0 asked for",
        "recipe.lr: not set here, 0.5 asked for",
    ]


def test_those_lines_are_printed_below_the_error(toy_study, capsys):
    words = f"run --protocol toy --trials 9 --set image.crop_px=12 --out {toy_study}"
    assert main(words.split()) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith(f"benchmark: {toy_study} holds a study under other rules (2 of them")
    assert first.endswith(f"give this one a folder of its own, as with --out {toy_study}-toy")
    assert others == [
        "  image.crop_px: 16 here, 12 asked for",
        "  search.trials: 2 here, 9 asked for",
    ]


@pytest.mark.parametrize("width", [60, 80])
def test_a_plan_fits_and_breaks_no_name(width):
    names = ("ms", "divide_conquer", "multi_similarity_x2")
    cells = Tables(("Method", "State"), ("Trials", "Runs", "Jobs left"))
    phases = Tables(("Method", "Phase"), ("Begins at step", "Earliest stop", "Budget"))
    for name in names:
        cells.add("emoji · tiny · adam", (name, "partial", "10/50", "10/10", "1,200"))
        span = ("5,000 to 15,000", "1,200 to 1,300", "120,000")
        phases.add("emoji · tiny · adam", (name, "whole embedding", *span))
    printed = io.StringIO()
    console = Console(file=printed, width=width)
    for tables in (cells, phases):
        tables.show(console)
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for name in names:
        assert sum(name in line.split() for line in lines) == 2


def test_a_name_wider_than_its_place_is_shown_whole():
    name = "n" * 64
    tables, printed = Tables(("Method",), ("Runs",)), io.StringIO()
    tables.add("here", (name, "1/3"))
    tables.show(Console(file=printed, width=60))
    assert max(map(len, printed.getvalue().splitlines())) <= 60
    assert printed.getvalue().count("n") - "Runs".count("n") == len(name)


@pytest.mark.parametrize("width", [50, 60, 70, 80])
def test_results_and_costs_fit_and_break_no_name(width, toy_study):
    study = load_study(toy_study)
    tables, paid = make_tables(study), spending(study)
    printed = io.StringIO()
    console = Console(file=printed, width=width)
    whole = costs.in_words(paid.of([*tables.cells[0].runs]), (0.8, "EUR"))
    shown = costs.render(costs.frame(tables.cells, paid, (0.8, "EUR")), whole)
    console.print(*formats.render(tables), *shown, sep="\n")
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    words = printed.getvalue().split()
    for name in ("triplet", "ms", "untrained", "(baseline)", "separated", "Embedded"):
        assert name in words
    assert {word for word in words if "…" in word} == set()


def test_one_is_singular():
    assert [counted(n, "job") for n in (0, 1, 2000)] == ["0 jobs", "1 job", "2,000 jobs"]
    assert [counted(n, "query", "queries") for n in (1, 2)] == ["1 query", "2 queries"]
