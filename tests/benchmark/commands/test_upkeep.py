"""Studies merged, rows removed, folders cleaned: against one that was run in one place."""

import errno
import json
import os
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli import main, make_parser
from benchmark.commands import outputs
from benchmark.study import aside, grid, records, references
from benchmark.study.folder import Study, load_study
from benchmark.study.looks import Looks, read_looks, write_looks
from tests.running import queries, run, tables, truth, weights


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A study of three rows, run in one place."""
    out = tmp_path_factory.mktemp("straight") / "out"
    run("--methods", "triplet,ms", "--seeds", "2", "--trials", "2", out=out)
    return out


def parted(straight, folder, name, keep):
    """Return a copy as a machine would have left it that ran only what ``keep`` says of a path."""
    out = folder / name
    shutil.copytree(straight, out, ignore=shutil.ignore_patterns("cache", "study.id"))
    for path in sorted((out / "records").rglob("*.json")):
        if not keep(path):
            path.unlink()
    study = load_study(out)
    cells = tuple(cell for cell in study.cells if any(study.folder(cell).glob("*.json")))
    type(study)(out, study.protocol, cells).save()
    return out


def of(*methods):
    return lambda path: any(path.parent.name.startswith(f"{name}-") for name in methods)


def merge(*folders, out):
    return main(["merge", *map(str, folders), "--out", str(out)])


def test_two_halves_make_the_tables_of_one_place(straight, tmp_path, capsys):
    one = parted(straight, tmp_path, "one", of("triplet", "untrained"))
    two = parted(straight, tmp_path, "two", of("ms", "untrained"))
    assert merge(one, two, out=tmp_path / "all") == 0
    said = capsys.readouterr().out
    assert f"{two}: " in said
    assert "missing" not in said
    assert tables(tmp_path / "all") == tables(straight)
    assert truth(tmp_path / "all") == truth(straight)
    assert queries(tmp_path / "all") == queries(straight)
    assert weights(tmp_path / "all") == weights(straight)
    assert not aside.faults(load_study(tmp_path / "all"), load_study(straight).cells[0])
    # What was merged is continued as if it had been run there: nothing is left to do.
    assert "nothing left to do" in run(
        *("--methods", "triplet,ms", "--seeds", "2", "--trials", "2"), out=tmp_path / "all"
    )


def test_parts_of_one_cell_come_together_and_the_rest_is_run(straight, tmp_path, capsys):
    one = parted(straight, tmp_path, "one", lambda path: "seed-1" not in path.name)
    two = parted(straight, tmp_path, "two", lambda path: "seed-0" not in path.name)
    for path in (two / "records").rglob("trial-001*"):
        path.unlink()
    for path in (two / "records").rglob("choice.json"):
        path.unlink()
    assert merge(one, two, out=tmp_path / "all") == 0
    assert truth(tmp_path / "all") == truth(straight)
    assert "missing" not in capsys.readouterr().out


def test_it_goes_on_where_it_was_interrupted_and_into_a_study_that_is_there(straight, tmp_path):
    one = parted(straight, tmp_path, "one", of("triplet", "untrained"))
    two = parted(straight, tmp_path, "two", of("ms", "untrained"))
    assert merge(two, out=one) == 0  # the folder that is written is one of the studies
    assert truth(one) == truth(straight)
    for path in sorted((one / "records").rglob("*.json"))[::3]:
        path.unlink()
    assert merge(two, parted(straight, tmp_path, "three", of("triplet")), out=one) == 0
    assert truth(one) == truth(straight)


def test_a_disagreement_is_named_and_nothing_is_written(straight, tmp_path, capsys):
    one = parted(straight, tmp_path, "one", of("triplet", "untrained"))
    two = parted(straight, tmp_path, "two", of("triplet", "untrained"))
    path = next((two / "records").rglob("triplet-*/seed-1.fold-0.json"))
    record = records.load(path)
    other = {name: value / 2 for name, value in record.test.items()}
    records.write(path, type(record)(**{**vars(record), "test": other}))
    assert merge(one, two, out=tmp_path / "all") == 2
    said = capsys.readouterr().err
    assert (
        f"triplet on toy (tiny, adam): seed-1.fold-0.json is another one in {one} and in {two}"
        in said
    )
    advice = said.splitlines()[-1]
    assert "1 place" in advice
    # The row stands in every study and cannot be removed, so the advice is another: it is followed.
    assert "remove METHOD" not in advice
    folder = advice.partition(": move ")[2].partition(" out of ")[0]
    assert not (tmp_path / "all" / "study.json").exists()
    (two / folder).rename(tmp_path / "moved")
    assert merge(one, two, out=tmp_path / "all") == 0
    assert tables(tmp_path / "all") == tables(straight_without_ms(straight, tmp_path))


def straight_without_ms(straight, folder):
    out = parted(straight, folder, "without", of("triplet", "untrained"))
    assert main(["tables", "--out", str(out)]) == 0
    return out


def test_advice_fits_each_kind_of_disagreement(straight, tmp_path, capsys):
    """Rows of unlike machines, a row that can be removed and reference rows."""
    one = parted(straight, tmp_path, "one", lambda path: True)
    two = parted(straight, tmp_path, "two", lambda path: True)
    held = references.Reference(
        name="peer", dataset="toy", dataset_digest="12345678", file="peer.onnx", file_sha256="ab",
        compare="angle", size=8, metrics={"map_at_r": 0.5}, excluded=0, ties=0, labels=[0],
        counts=[1.0], sums={"map_at_r": [0.5]}, opening="test images of toy opened",
    )  # fmt: skip
    peers = []
    for folder, capability in ((one, "NEON"), (two, "SVE256")):
        for path in (folder / "records").rglob("ms-*/seed-1.fold-0.json"):
            record = records.load(path)
            environment = {**record.measured["environment"], "cpu_capability": capability}
            test = {name: value / (1 + len(capability)) for name, value in record.test.items()}
            measured = {**record.measured, "environment": environment}
            records.write(path, replace(record, measured=measured, test=test))
        peer = replace(held, metrics={"map_at_r": 1 / len(capability)})
        peers.append(references.write(load_study(folder), peer))
    assert merge(one, two, out=tmp_path / "all") == 2
    first, *_, advice = capsys.readouterr().err.splitlines()
    assert "CPU instructions" in first
    assert f"NEON ({one})" in first
    assert "remove METHOD --out DIR" in advice
    assert "Delete the file of the reference row" in advice
    for path in peers:
        path.unlink()
    assert main(["remove", "ms", "--out", str(two)]) == 0
    assert merge(one, two, out=tmp_path / "all") == 0


def test_other_rules_or_code_or_device_are_refused(straight, tmp_path, capsys):
    one = parted(straight, tmp_path, "one", of("triplet", "untrained"))
    rules = load_study(straight).protocol
    other = Study(tmp_path / "other", replace(rules, search=replace(rules.search, trials=3)))
    other.save()
    assert merge(one, other.out, out=tmp_path / "all") == 2
    both = f"(search.trials: 2 in {one}, 3 in {other.out})"
    assert f"are under other rules {both}" in capsys.readouterr().err
    watched = Study(tmp_path / "watched", replace(rules, oracle_gap=True))
    watched.save()
    assert merge(one, watched.out, out=tmp_path / "all") == 2
    assert f"--oracle-gap: in {watched.out}, not in {one}" in capsys.readouterr().err
    two = parted(straight, tmp_path, "two", of("ms", "untrained"))
    for path in (two / "records").rglob("*.fold-*.json"):
        record = records.load(path)
        environment = {**record.measured["environment"], "device_kind": "cuda"}
        measured = {**record.measured, "environment": environment}
        records.write(path, type(record)(**{**vars(record), "measured": measured}))
    assert merge(one, two, out=tmp_path / "all") == 2
    assert f"({one} on cpu, {two} on cuda)" in capsys.readouterr().err
    assert merge(one, out=tmp_path / "all") == 2
    assert "one study only" in capsys.readouterr().err
    assert not (tmp_path / "all" / "study.json").exists()


def test_what_is_not_believed_stays_behind_and_is_said(straight, tmp_path, capsys):
    one = parted(straight, tmp_path, "one", of("triplet", "untrained"))
    two = parted(straight, tmp_path, "two", of("ms", "untrained"))
    damaged = next((two / "records").rglob("ms-*/trial-001.fold-0.json"))
    damaged.write_bytes(damaged.read_bytes()[:-30])
    assert merge(one, two, out=tmp_path / "all") == 0
    said = capsys.readouterr().out
    assert (
        "ms on toy (tiny, adam): 1 record not believed: trial-001.fold-0.json (damaged); left there"
        in said
    )
    told = said.partition("missing; to run them:\n")[2].splitlines()[0]
    words = shlex.split(told.removeprefix("python -m benchmark "))
    asked = make_parser().parse_args(words)
    assert (asked.methods, asked.datasets, asked.out) == (("ms",), ("toy",), tmp_path / "all")
    assert main([*words, "--dry-run"]) == 0
    names = {path.name for path in (tmp_path / "all" / "records").rglob("ms-*/*.json")}
    assert "trial-000.json" in names
    assert not names & {"trial-001.fold-0.json", "trial-001.json", "choice.json"}


def test_looks_of_both_are_kept(straight, tmp_path):
    one = parted(straight, tmp_path, "one", of("triplet", "untrained"))
    two = parted(straight, tmp_path, "two", of("ms", "untrained"))
    write_looks(load_study(one), Looks(2, (2,), ("horde",)))
    write_looks(load_study(two), Looks(6, (1,)))
    assert merge(one, two, out=tmp_path / "all") == 0
    assert read_looks(load_study(tmp_path / "all")) == Looks(None, (1, 2), ("horde",))


def test_a_row_that_is_removed_leaves_the_tables_and_comes_back_without_work(
    straight, tmp_path, capsys
):
    out = parted(straight, tmp_path, "out", lambda path: True)
    before = tables(out)
    assert main(["remove", "ms", "--out", str(out)]) == 0
    assert "removed ms: 1 cell" in capsys.readouterr().out
    assert b",ms," not in tables(out)["runs"]
    assert b",triplet," in tables(out)["runs"]
    assert read_looks(load_study(out)).removed == ()  # no verdict had been shown
    said = run("--methods", "triplet,ms", "--seeds", "2", "--trials", "2", out=out)
    assert "nothing left to do" in said
    assert tables(out) == before
    write_looks(load_study(out), Looks(2, (2,)))
    assert main(["remove", "ms", "--out", str(out)]) == 0
    assert read_looks(load_study(out)).sentence().endswith("rows removed after a look: ms")
    assert not read_looks(load_study(out)).clean


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["triplet"], "triplet stays: the others are compared with it"),
        (["untrained"], "untrained stays: every study has it"),
        (["mss"], "no row 'mss'"),
        (["ms", "--datasets", "cub200"], "no dataset 'cub200'"),
    ],
)
def test_what_cannot_be_removed(straight, capsys, words, said):
    assert main(["remove", *words, "--out", str(straight)]) == 2
    assert said in capsys.readouterr().err


def searched_again(out, *methods):
    """Give rows of a study two further searches each, of which nothing has been run."""
    study, protocol = load_study(out), load_study(out).protocol
    further = [
        grid.further_search(cell, study.cell_record(cell), protocol, repeat)
        for repeat in (1, 2)
        for cell in study.cells
        if cell.method in methods
    ]
    grid.save_cells(study, further)
    replace(study, repeats=tuple(key for key, _ in further)).save()


def rows_of(out):
    return [cell["row"] for cell in json.loads((Path(out) / "study.json").read_text())["cells"]]


@pytest.mark.parametrize(
    ("name", "leaving"),
    [
        ("ms (search 2)", ["ms (search 2)"]),
        ("triplet (search 3)", ["triplet (search 3)"]),  # nothing is compared with it
        ("ms", ["ms", "ms (search 2)", "ms (search 3)"]),
    ],
)
def test_a_further_search_goes_alone_and_with_its_row(straight, tmp_path, capsys, name, leaving):
    out = parted(straight, tmp_path, "out", lambda path: True)
    searched_again(out, "ms", "triplet")
    write_looks(load_study(out), Looks(2, (2,)))
    before = rows_of(out)
    assert main(["remove", name, "--out", str(out)]) == 0
    assert rows_of(out) == [row for row in before if row not in leaving]
    assert read_looks(load_study(out)).removed == tuple(leaving)
    assert f"removed {', '.join(leaving)}: " in capsys.readouterr().out


def test_a_study_is_read_once_nobody_else_can_change_it(straight, tmp_path, monkeypatch):
    """What another command did while this one waited for the folder is not undone."""
    out = parted(straight, tmp_path, "out", lambda path: True)
    taken = outputs.lock

    @contextmanager
    def late(folder, say):
        searched_again(out, "triplet")  # by another command, in the last moment
        with taken(folder, say):
            yield

    monkeypatch.setattr(outputs, "lock", late)
    assert main(["remove", "ms", "--out", str(out)]) == 0
    expected = ["triplet", "untrained", "triplet (search 2)", "triplet (search 3)"]
    assert rows_of(out) == expected


def test_clean_says_the_bytes_and_takes_nothing_that_a_result_needs(straight, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(straight, out)
    before = (truth(out), queries(out), weights(out), tables(out))
    (out / "records" / ".seed-0.json.999999.part").write_bytes(b"x" * 1000)
    decoded = sum(path.stat().st_size for path in (out / "cache").rglob("*") if path.is_file())
    assert decoded
    assert main(["clean", "--out", str(out)]) == 0  # nobody is asked without a terminal
    said = capsys.readouterr().out
    assert f"{decoded / 1e6:,.1f} MB" in said
    assert "nothing removed; --yes removes it" in said
    assert any((out / "cache").rglob("*"))
    assert main(["clean", "--yes", "--out", str(out)]) == 0
    assert not list(out.rglob("*.part"))
    assert not any((out / "cache").iterdir())
    assert (truth(out), queries(out), weights(out), tables(out)) == before
    capsys.readouterr()
    assert main(["clean", "--out", str(out)]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    said = run("--methods", "triplet,ms", "--seeds", "2", "--trials", "2", out=out)
    assert "nothing left to do" in said
    assert tables(out) == before[3]


def test_what_cannot_be_cleaned_is_one_line(straight, tmp_path, capsys, monkeypatch):
    out = parted(straight, tmp_path, "out", lambda path: True)
    (out / "cache").mkdir()
    (out / "cache" / "decoded").write_bytes(b"x")

    def refuse(path, **_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["clean", "--yes", "--out", str(out)]) == 2
    assert "decoded: Permission denied" in capsys.readouterr().err


def test_the_study_file_lists_what_is_left(straight, tmp_path):
    out = parted(straight, tmp_path, "out", lambda path: True)
    assert main(["remove", "ms", "--out", str(out)]) == 0
    held = json.loads((Path(out) / "study.json").read_text())
    assert [cell["row"] for cell in held["cells"]] == ["triplet", "untrained"]
