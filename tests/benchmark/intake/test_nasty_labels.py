"""Labels and file names of own images that steer, hide, turn or compute: shown sign by sign."""

import csv
import io

import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.report import gallery, page
from protocols.discovery import Registry
from protocols.names import one_line
from tests.benchmark.test_nasty_names import NASTY, assert_seen

LABELS = sorted({text.strip() for text in NASTY})


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A list of two images a label, of which each file's name begins with a text as well."""
    base = tmp_path_factory.mktemp("nasty")
    table = io.StringIO()
    writer = csv.writer(table, quoting=csv.QUOTE_ALL)
    writer.writerow(("path", "label", "na\x1b[31mme"))
    for number, label in enumerate(LABELS):
        for copy in range(2):
            text = NASTY[number % len(NASTY)].replace("/", "").strip()
            path = f"a{text}{number}-{copy}.png"
            Image.new("RGB", (9, 9), (2 * number + copy, 99, 7)).save(base / path)
            writer.writerow((path, label, "x"))
    (base / "a\x1b[2K.csv").write_text(table.getvalue(), "utf-8", newline="")
    return f"csv:{base / ('a' + chr(27) + '[2K.csv')}", base / "root"


def prepared(name, root):
    return ["data", "prepare", name, "--root", str(root), "--labels", "text"]


def test_what_data_commands_print_and_write(listed, capsys):
    name, root = listed
    assert main(prepared(name, root)) == 0
    said = capsys.readouterr()
    assert f"{2 * len(LABELS)} images in {len(LABELS)} classes" in said.out
    assert_seen(said.out + said.err)
    assert main(["data", "check", name, "--root", str(root)]) in (0, 3)
    said = capsys.readouterr()
    assert_seen(said.out + said.err)
    (report,) = root.rglob("check.csv")
    for row in csv.reader(io.StringIO(report.read_text("utf-8"))):
        for field in row:
            assert_seen(field)
            assert field[:1] not in tuple("=+-@")


def test_labels_come_back_as_they_were_and_a_page_shows_every_sign(listed, capsys):
    name, root = listed
    main(prepared(name, root))
    capsys.readouterr()
    dataset = Registry().load("dataset", name).load(root)
    assert sorted(dataset.class_names) == LABELS
    made = page._environment().from_string("{% for name in names %}<p>{{ name }}</p>{% endfor %}")
    names = [gallery.class_name(dataset.class_names, at) for at in range(len(LABELS))]
    shown = made.render(names=names)
    assert_seen(shown)
    assert "<script>" not in shown
    assert shown.count("<p>") == len(LABELS)


def test_errors_name_them_sign_by_sign(listed, capsys):
    name, root = listed
    assert main(["data", "prepare", name + "\x1b[31m", "--root", str(root)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert_seen(line)
    assert one_line("\x1b[31m") in line
