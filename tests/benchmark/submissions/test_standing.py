"""Void rows, signatures, and where a row stands: each by hand, and through the commands."""

import re
import shutil
import subprocess
from datetime import date

import pytest

from benchmark.cli import main, make_parser
from benchmark.submissions import leaderboard, signatures, voided
from benchmark.submissions.read import read_row, row_folders
from benchmark.submissions.standing import STATES, standing
from benchmark.submissions.took import seconds_of
from benchmark.submissions.verify import examine
from protocols.errors import InvalidInputError
from tests.benchmark import rows
from tests.benchmark.submissions.test_verify import claimed

ROW = "toy/toy/ms"
needs_ssh = pytest.mark.skipif(not signatures.can_check(), reason="no ssh-keygen here")


def entry(results, what="method", row=ROW, **changes):
    cell = read_row(results, results / row).cell
    digests = {
        "method": cell.made_of.method_code,
        "trunk": cell.made_of.trunk_code,
        "dataset": cell.made_of.dataset_digest,
        "protocol": cell.protocol_hash,
    }
    body = {"what": what, "name": "ms", "digests": f'["{digests[what]}"]', **changes}
    since, why = body.get("since", "2026-12-01"), body.get("why", "its loss had a wrong sign")
    return (
        f'[[void]]\nwhat = "{body["what"]}"\nname = "{body["name"]}"\n'
        f'digests = {body["digests"]}\nsince = {since}\nwhy = "{why}"\n'
    )


@pytest.fixture
def void(results, tmp_path, monkeypatch):
    """Write entries as ``voided.toml``, which everything reads from then on."""
    path = tmp_path / "voided.toml"

    def write(*entries):
        path.write_text("".join(entries))
        monkeypatch.setattr(voided.read_voids, "__defaults__", (path,))
        return path

    return write


def test_the_file_that_ships_reads():
    assert all(entry.since <= date.today() for entry in voided.read_voids())


@pytest.mark.parametrize(
    ("what", "void_rows"),
    [
        ("method", {"ms"}),
        ("trunk", {"ms", "triplet", "untrained"}),
        ("dataset", {"ms", "triplet", "untrained"}),
        ("protocol", {"ms", "triplet", "untrained"}),
    ],
)
def test_rows_are_void_by_digest(results, void, what, void_rows):
    void(entry(results, what))
    entries = voided.read_voids()
    found = [read_row(results, folder) for folder in row_folders(results)]
    assert {row.cell.row for row in found if voided.void_of(row.cell, entries)} == void_rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[void]]\n", "void.0.what: Field required"),
        ("[[void", "does not read"),
        ("[[rows]]\n", "rows: Extra inputs"),
        ('[[void]]\nwhat="method"\nname="ms"\ndigests=[]\nsince=2026-01-01\nwhy="w"', "digests"),
        ('[[void]]\nwhat="metho"\nname="ms"\ndigests=[]\nsince=2026-01-01\nwhy="w"', "what"),
        (
            '[[void]]\nwhat="method"\nname="ms"\ndigests=["xyz"]\nsince=2026-01-01\nwhy="w"',
            "digests.0: ",
        ),
    ],
)
def test_a_faulty_file_is_one_line(void, text, said):
    void(text)
    with pytest.raises(InvalidInputError) as error:
        voided.read_voids()
    assert "\n" not in str(error.value)
    assert said in str(error.value)


def test_verify_and_leaderboard_show_it_apart_with_reason_and_cost(results, void, capsys):
    void(entry(results))
    assert main(["verify", str(results), "--rebuild"]) == 0
    said = capsys.readouterr().err
    row = read_row(results, results / ROW)
    hours = seconds_of(row) / 3600
    line = f"void: {ROW}: method ms, since 2026-12-01: its loss had a wrong sign ({hours:.2f} h"
    assert line in said
    assert "3 rows, 0 stale, 1 void; 0 problems" in said
    above, below = (results / "README.md").read_text().split("## Void: a fix has shown")
    assert "`triplet`" in above
    assert "`ms`" not in above
    assert "`ms`" in below
    assert "- `ms`: void since 2026-12-01: its loss had a wrong sign (" in below
    lines = [line.split(",") for line in (results / leaderboard.FILE).read_text().splitlines()]
    state = lines[0].index("state")
    states = {line[lines[0].index("method")]: line[state] for line in lines[1:]}
    assert states == {"ms": "voided", "triplet": "submitted", "untrained": "submitted"}


def test_the_commands_for_void_rows_are_understood_and_make_all_of_them(results, void, capsys):
    void(entry(results, "trunk"))
    assert main(["rerun", str(results), "--voided", "--out", "again"]) == 0
    cost, command = capsys.readouterr().out.splitlines()
    assert cost.startswith("# 3 rows, ")
    assert command == (
        "python -m benchmark run --protocol toy --methods ms,triplet --datasets toy "
        "--trunks tiny --recipes adam --out again/toy"
    )
    assert make_parser().parse_args(command.split()[3:]).methods == ("ms", "triplet")


def test_nothing_void_is_said(results, void, capsys):
    void()
    assert main(["rerun", str(results), "--voided"]) == 0
    assert capsys.readouterr().out == f"no row of {results} is void\n"
    assert main(["rerun"]) == 2
    assert "or --voided" in capsys.readouterr().err


# --- where a row stands ---------------------------------------------------------------------------

INSIDE, OUTSIDE, OPEN = (0.205, 0.215), (0.5, 0.6), (0.205, 0.5)


def reran(results, *each, author=False):
    """Return a row with one rerun for each of the given runs."""
    reruns = []
    for number, values in enumerate(each):
        row = claimed(results, (0.20, 0.21, 0.22), values, "B. Other")
        rerun = row.reruns[0]
        rerun.name = f"challenge-2026-01-0{number + 1}"
        rerun.challenge = rerun.challenge.model_copy(update={"author_of_method": author})
        reruns.append(rerun)
    row = claimed(results, (0.20, 0.21, 0.22), INSIDE, "B. Other")
    row.reruns = reruns
    return row


@pytest.mark.parametrize(
    ("reruns", "state"),
    [
        ((), "submitted"),
        ((INSIDE,), "verified"),
        ((INSIDE, OPEN), "verified"),
        ((OUTSIDE,), "refuted"),
        ((OUTSIDE, OPEN), "refuted"),
        ((OPEN,), "challenged"),
        ((INSIDE, OUTSIDE), "challenged"),
    ],
)
def test_states(results, reruns, state):
    assert standing(reran(results, *reruns), None, {}).state == state
    assert state in STATES


def test_the_authors_word_counts_if_it_is_signed(results):
    row = reran(results, INSIDE, author=True)
    signed = {f"{ROW}/challenge-2026-01-01.sig": "author@example.org"}
    assert standing(row, None, {}).state == "verified"
    assert standing(row, None, signed).state == "confirmed by the author"
    assert standing(reran(results, INSIDE), None, signed).state == "verified"
    assert standing(reran(results, OUTSIDE, author=True), None, signed).state == "refuted"


def test_void_stands_above_all(results, void):
    void(entry(results))
    row = reran(results, INSIDE)
    made_void = voided.void_of(row.cell, voided.read_voids())
    assert standing(row, made_void, {}).state == "voided"


# --- signatures -----------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path):
    """A key pair of somebody."""
    path = tmp_path / "key"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", str(path)]
    subprocess.run(words, check=True, capture_output=True)
    return path


def know(results, key, name="somebody@example.org", options=""):
    public = " ".join((key.with_suffix(".pub")).read_text().split()[:2])
    (results / signatures.SIGNERS).write_text(f"# who is who\n{name} {options}{public}\n")


def problems(results):
    return [p for p in examine(results, None).problems if p[1].endswith(".sig")]


@needs_ssh
@pytest.mark.parametrize("options", ["", 'namespaces="dml-benchmark" '])
def test_a_signed_row_says_by_whom_and_an_edited_one_is_found(results, key, options, capsys):
    signatures.sign(results, results / ROW, "claim", key)
    know(results, key, options=options)
    assert main(["verify", str(results), "--rebuild"]) == 0
    text = (results / "README.md").read_text()
    assert "submitted; signed by somebody@example.org" in text
    assert text.count("; unsigned") == 2
    claim = results / ROW / "claim.toml"
    claim.write_text(claim.read_text().replace("a test", "another machine"))
    ((said, path),) = problems(results)
    assert path == f"{ROW}/claim.sig"
    assert said.startswith("is no signature of these files as they are now")


@needs_ssh
def test_a_key_that_nobody_knows_signs_nothing_but_holds(results, key):
    signature = signatures.sign(results, results / ROW, "claim", key)
    folders = row_folders(results)
    assert problems(results) == []
    assert not signatures.is_known(results, [signature, results / ROW / "claim.toml"])
    assert signatures.signers_of(results, folders) == {}
    other = results.parent / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    know(results, other)
    assert problems(results) == []
    assert signatures.signers_of(results, folders) == {}
    know(results, key)
    assert signatures.is_known(results, [signature])


@needs_ssh
@pytest.mark.parametrize(
    "plant",
    [
        lambda results, sig: shutil.copy(sig, results / "toy/toy/triplet/claim.sig"),  # moved
        lambda results, sig: sig.write_bytes(sig.read_bytes()[:-60]),
        lambda results, sig: sig.write_text("no signature"),
        lambda results, sig: sig.write_bytes(b"\xff" * 500),
        lambda results, sig: sig.write_bytes(b"x" * 9000),
        lambda results, sig: (results / ROW / "seed-0.json").unlink(),
        lambda results, sig: shutil.copy(sig, sig.with_name("challenge-2026-01-01.sig")),
    ],
)
def test_a_signature_of_something_else_is_found(results, key, plant):
    signatures.sign(results, results / ROW, "claim", key)
    know(results, key)
    plant(results, results / ROW / "claim.sig")
    assert any(p.endswith(".sig") for _, p in examine(results, None).problems)


@needs_ssh
def test_another_namespace_is_no_signature_of_a_row(results, key):
    text = signatures.statement(results, results / ROW, "claim")
    words = ["ssh-keygen", "-Y", "sign", "-q", "-f", str(key), "-n", "git"]
    done = subprocess.run(words, input=text, check=True, capture_output=True)
    (results / ROW / "claim.sig").write_bytes(done.stdout)
    know(results, key)
    assert len(problems(results)) == 1


@needs_ssh
def test_submit_signs_what_it_writes_and_what_is_named(toy_study, submitted, tmp_path, key, capsys):
    shutil.copytree(submitted, tmp_path / "checkout")
    results = tmp_path / "checkout" / "results"
    words = ("--methods", "ms", "--sign", str(key))
    assert rows.submit(toy_study, results, *words) == 0
    assert sorted(path.parent.name for path in results.rglob("*.sig")) == ["ms"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert rows.submit(toy_study, empty, "--sign", str(key)) == 0
    assert len(list(empty.rglob("claim.sig"))) == 3
    assert rows.submit(toy_study, results, "--sign", str(tmp_path / "nothing")) == 2
    assert "no such file" in capsys.readouterr().err


@needs_ssh
def test_the_statement_is_the_files_and_their_place(results):
    text = signatures.statement(results, results / ROW, "claim").decode()
    assert text.startswith("dml-benchmark toy/toy/ms claim\n")
    listed = re.findall(r"^[0-9a-f]{64}  (.+)$", text, flags=re.MULTILINE)
    assert listed == sorted(path.name for path in (results / ROW).iterdir())


def test_without_ssh_keygen_nothing_is_checked_and_that_is_said(results, monkeypatch, capsys):
    (results / ROW / "claim.sig").write_text("no signature")
    monkeypatch.setattr(signatures.shutil, "which", lambda name: None)
    assert main(["verify", str(results), "--rebuild"]) == 0
    assert "signatures were not checked: no ssh-keygen here" in capsys.readouterr().err
