"""Further searches and watched runs beside a row: how they get there, and what cannot pass."""

import json
import math
import os
import shutil
import subprocess
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.site import content
from benchmark.study import records, suggestions
from benchmark.study.folder import load_study
from benchmark.study.records import TrialRecord
from benchmark.study.spread import spread
from benchmark.submissions import (
    git,
    kept,
    leaderboard,
    schema,
    searches,
    signatures,
    watching,
)
from benchmark.submissions.read import read_row
from benchmark.submissions.verify import examine
from benchmark.submissions.watched import Watched, WatchedFold
from protocols.discovery import load
from protocols.metrics import METRICS
from protocols.protocol import Pace, SearchRule
from protocols.recipe import Schedule
from protocols.space import Choice, Real
from tests.benchmark import rows
from tests.benchmark.submissions.forging import edit_cell, edit_run, take_runs

MS, TRIPLET = "toy/toy/ms", "toy/toy/triplet"
SEARCH = f"{MS}/search-2"
RUN_FILES = (("seed", "json"), ("values", "npz"))


@pytest.fixture(scope="session")
def searched(toy_study, tmp_path_factory):
    """The finished study after a further search of ms."""
    out = tmp_path_factory.mktemp("searched") / "out"
    keep = shutil.ignore_patterns("mlflow*", "search.db", "report", "cache")
    shutil.copytree(toy_study, out, ignore=keep)
    mirror = toy_study / "mlflow.db"
    rows.run(out, "--methods", "ms", "--search-repeats", "2", "--jobs", "2", mirror=mirror)
    return out


@pytest.fixture(scope="session")
def watched(toy_study, submitted, tmp_path_factory):
    """The runs of ms once more under --oracle-gap, by the commands that ``rerun`` prints."""
    out = tmp_path_factory.mktemp("watched") / "out"
    row = submitted / "results" / MS
    assert main(["rerun", str(row), "--oracle-gap", "--out", str(out)]) == 0
    rows.run(out, "--methods", "ms", "--oracle-gap", "--jobs", "2", mirror=toy_study / "mlflow.db")
    return out


@pytest.fixture(scope="session")
def laid_out(submitted, searched, watched, tmp_path_factory):
    """A checkout with evidence beside its rows; its commit has the code alone, as a forger's."""
    root = tmp_path_factory.mktemp("evidence") / "checkout"
    shutil.copytree(submitted, root)
    results, commit = root / "results", rows.git(root, "rev-parse", "HEAD~1")
    rows.git(root, "reset", "--quiet", "HEAD~1")
    for study in (searched, watched):
        assert main(["submit", str(study), "--results", str(results)]) == 0
    for path in results.glob("*/*/*/search-*/seed-*.json"):
        rows.edit(path, lambda b: b["environment"].update(commit=commit, dirty=False))
    return results


@pytest.fixture
def results(laid_out, tmp_path):
    """A copy of it, to plant faults in."""
    shutil.copytree(laid_out.parent, tmp_path / "checkout")
    return tmp_path / "checkout" / "results"


def said(results):
    """Return every problem as one text a line, after the leaderboard is rebuilt."""
    leaderboard.write(results)
    found = examine(results, git.find(results))
    return [f"{message} @ {path}" for message, path in found.problems]


def cell_of(row):
    return json.loads((row / "cell.json").read_text())


def seed_of(row, seed=0):
    return json.loads((row / f"seed-{seed}.json").read_text())


# --- what submit copies, and that nothing else moves ----------------------------------------------


def test_evidence_lies_beside_its_row_and_verifies(results, searched, watched, capsys):
    assert said(results) == []
    row = read_row(results, results / MS)
    assert (row.search, [s.search for s in row.further], sorted(row.watched)) == (1, [2], [0, 1])
    (further,) = row.further
    assert further.place == SEARCH
    names = {path.name for path in (results / SEARCH).iterdir()}
    runs = {f"{kind}-{seed}.{end}" for seed in (0, 1) for kind, end in RUN_FILES}
    assert names == {"cell.json", "trials.jsonl", *runs}, "no claim: the row's speaks for it"
    study = load_study(searched)
    (key,) = [key for key in study.repeats if key.method == "ms"]
    assert further.cell.id == key.id
    assert further.cell.made_of.search_repeat == 1
    assert [t.value for t in further.trials] == [t.value for t in study.trials(key)]
    assert main(["verify", str(results)]) == 0
    words = capsys.readouterr().err
    assert "3 rows, 0 stale; 0 problems" in words
    assert "besides: 1 further search and 2 watched runs, counted in no table" in words


def test_the_gap_is_that_of_the_study(results, watched):
    """The claim of the records, by the rule of the tables, against the row's own number."""
    study, row = load_study(watched), read_row(results, results / MS)
    key = next(key for key in study.cells if key.method == "ms")
    for run in study.runs(key):
        for metric in METRICS:
            jobs = study.jobs(key, "final", run.seed)
            best = [max(entry[metric] for entry in job.oracle) for job in jobs]
            expected = math.fsum(best) / len(best) - run.separated[metric]
            found = row.watched[run.seed].gap(row.runs[run.seed], metric)
            assert found == pytest.approx(expected, abs=1e-15)
            assert found >= 0
        assert row.watched[run.seed].gap(row.runs[run.seed], "map_at_r") == pytest.approx(
            run.oracle["map_at_r"] - run.separated["map_at_r"], abs=1e-15
        )


def test_tables_and_site_are_the_same_bytes_without_evidence(results, submitted):
    assert said(results) == []
    for name in ("leaderboard.csv", "README.md"):
        assert (results / name).read_bytes() == (submitted / "results" / name).read_bytes()
    shown = content.read_results(results)
    assert shown.csv == (results / "leaderboard.csv").read_bytes()
    assert len(shown.rows) == 3


def test_what_is_kept_of_evidence_has_no_values(results):
    found = {one.row.place: one for one in kept.unchecked(results)}
    (further,) = found[MS].further
    assert further.row.place == SEARCH
    assert (further.row.values, found[MS].row.values) == ({}, {})
    assert sorted(further.marks) == [0, 1]
    assert len(further.test_sets) == 1


def test_a_second_time_changes_nothing(results, searched, watched, capsys):
    before = {p: p.read_bytes() for p in results.rglob("*") if p.is_file()}
    for study in (searched, watched):
        assert main(["submit", str(study), "--results", str(results)]) == 0
    assert f"{results / MS} has watched runs already, which stay" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in results.rglob("*") if p.is_file()} == before


def test_a_row_and_its_further_search_go_in_one_go(searched, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(searched, results) == 0
    placed = {str(p.parent.relative_to(results)) for p in results.rglob("cell.json")}
    assert placed == {MS, SEARCH, TRIPLET, "toy/toy/untrained"}
    assert not (results / SEARCH / "claim.toml").exists()


def test_a_half_finished_search_is_left_out_with_a_line(searched, tmp_path, capsys):
    study = tmp_path / "study"
    shutil.copytree(searched, study)
    key = next(key for key in load_study(study).repeats if key.method == "ms")
    (study / "records" / key.path / "seed-1.json").unlink()
    results = tmp_path / "results"
    results.mkdir()
    capsys.readouterr()
    assert rows.submit(study, results, "--methods", "ms") == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("left out")]
    assert "ms (search 2) on toy" in line
    assert "1 of 2 runs: not finished" in line
    assert (results / MS / "cell.json").is_file()
    assert not (results / SEARCH).exists()


def test_a_search_of_a_machine_with_other_numbers_stays_out(results, searched, capsys):
    """What the machine moves would stand there as what the search moves."""
    shutil.rmtree(results / SEARCH)
    edit_run(results / MS, lambda b: b["concatenated"].update(map_at_r=0.5))
    capsys.readouterr()
    assert main(["submit", str(searched), "--results", str(results)]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("left out")]
    assert "further searches of ms on toy: seed 0 of its first search has MAP@R" in line
    assert not (results / SEARCH).exists()


def test_a_search_of_which_no_run_came_through_lies_beside_its_row(
    laid_out, searched, tmp_path, capsys
):
    """Left out, it would make searching look steadier than it is."""
    study, results = tmp_path / "study", tmp_path / "checkout" / "results"
    shutil.copytree(searched, study)
    shutil.copytree(laid_out.parent, results.parent)
    shutil.rmtree(results / SEARCH)
    key = next(key for key in load_study(study).repeats if key.method == "ms")
    nothing = dict.fromkeys(("separated", "concatenated", "validation", "queries"))
    nothing |= dict.fromkeys(("embeddings_sha256", "embeddings_shape", "excluded", "ties"))
    for path in (study / "records" / key.path).glob("seed-?.json"):
        run = replace(records.load(path), status="failed", reason="non_finite", **nothing)
        records.write(path, replace(run, folds=[None] * len(run.folds)))
    assert main(["submit", str(study), "--results", str(results)]) == 0
    assert "left out" not in capsys.readouterr().out
    commit = rows.git(results, "rev-parse", "HEAD")
    for path in (results / SEARCH).glob("seed-*.json"):
        rows.edit(path, lambda b: b["environment"].update(commit=commit, dirty=False))
    assert said(results) == []
    (further,) = read_row(results, results / MS).further
    assert {run.status for run in further.runs.values()} == {"failed"}


def test_no_row_is_made_of_a_watched_study(watched, tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()
    assert rows.submit(watched, results) == 2
    assert "no such row; submit its study without --oracle-gap first" in capsys.readouterr().err
    words = ["submit", str(watched), "--results", str(results), "--challenge", "2026-01-31"]
    assert main(words) == 2
    assert "ran a changed 'toy' (oracle_gap True)" in capsys.readouterr().err
    assert list(results.iterdir()) == []


def test_other_bits_and_other_cells_are_left_out_and_said(watched, results, tmp_path, capsys):
    """A training on another processor is not the row's; one seed may be, and another not."""
    for path in (results / MS).glob("oracle-*.json"):
        path.unlink()
    edit_run(results / MS, lambda body: body.update(embeddings_sha256="0" * 64), 1)
    assert main(["submit", str(watched), "--results", str(results)]) == 0
    out = capsys.readouterr().out
    assert "oracle-1.json: ended with other embeddings than the run" in out
    assert [p.name for p in (results / MS).glob("oracle-*")] == ["oracle-0.json"]
    (results / MS / "oracle-0.json").unlink()
    edit_cell(results / MS, lambda body: body["identity"].update(method_code="0" * 12))
    assert main(["submit", str(watched), "--results", str(results)]) == 2
    assert "the row is of another cell" in capsys.readouterr().err


def test_missing_fold_records_are_said(watched, results, tmp_path, capsys):
    study = tmp_path / "study"
    shutil.copytree(watched, study)
    (results / MS / "oracle-1.json").unlink()
    next(study.glob("records/toy/tiny/adam/ms-*/seed-1.fold-0.json")).unlink()
    assert main(["submit", str(study), "--results", str(results)]) == 0
    assert "oracle-1.json: the records of its folds are not all there" in capsys.readouterr().out


def test_a_watched_study_that_is_not_finished_says_so(watched, results, tmp_path, capsys):
    study = tmp_path / "study"
    shutil.copytree(watched, study)
    (results / MS / "oracle-1.json").unlink()
    next(study.glob("records/toy/tiny/adam/ms-*/seed-1.json")).unlink()
    assert main(["submit", str(study), "--results", str(results)]) == 0
    assert "1 of 2 runs are watched. Run the same command again" in capsys.readouterr().out


@pytest.mark.parametrize(
    "broken", [{"best_steps": []}, {"folds": [None, None]}], ids=["no best step", "no fold"]
)
def test_a_watched_run_beside_a_broken_one_stops_nothing(broken, results):
    row = read_row(results, results / MS)
    row.runs[0] = row.runs[0].model_copy(update=broken)
    assert "the run's own folds are not whole" in watching.fault_of(row, row.watched[0])
    edit_run(results / MS, lambda body: body.update(broken), 0)
    assert any(
        f"{MS}/oracle-0.json" in line or f"{MS}/seed-0.json" in line for line in said(results)
    )


def test_a_stray_file_is_no_reason_to_remove_a_row(results, searched, capsys):
    (results / MS / ".DS_Store").write_text("")
    assert main(["submit", str(searched), "--results", str(results)]) == 2
    err = capsys.readouterr().err
    assert "the row is there, with a problem: does not belong into a row's folder" in err
    assert ".DS_Store" in err
    assert "git rm" not in err


def test_rerun_prints_what_watches_a_row(results, tmp_path, capsys):
    out = str(tmp_path / "again")
    assert main(["rerun", str(results / MS), "--oracle-gap", "--out", out]) == 0
    _, run, hand_in = capsys.readouterr().out.splitlines()
    assert "--seeds" not in run, "as many as the protocol has"
    assert run.endswith(f"--trunks tiny --recipes adam --oracle-gap --out {out}")
    assert hand_in == f"  python -m benchmark submit {out} --methods ms"
    words = ["rerun", "--voided", "--oracle-gap", "--out", out]
    assert main(words) == 2
    assert "choose one of the two" in capsys.readouterr().err
    assert main(["rerun", str(results / SEARCH), "--out", str(tmp_path / "further")]) == 2
    assert f"is a further search beside a row: rerun {results / MS}" in capsys.readouterr().err


def test_a_folder_of_rows_is_no_row_to_rerun(results, tmp_path, capsys):
    assert main(["rerun", str(results), "--out", str(tmp_path / "again")]) == 2
    said = capsys.readouterr().err
    assert "is no row: it has no cell.json; expected a folder like results/quick/emoji/ms" in said


def test_a_rerun_on_a_trunk_with_weights_names_the_trunk_and_says_which_weights(tmp_path, capsys):
    row = rows.ROOT / "results" / "finetune" / "emoji" / "ms+mobilenet_v2+2f518e77.adamw"
    assert main(["rerun", str(row), "--out", str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    assert " --trunks mobilenet_v2 --recipes adamw --seeds 2 " in out
    assert "and --weights, the file or the name of 2f518e77" in out


# --- what cannot pass -----------------------------------------------------------------------------


def watch(row, change, seed=0):
    rows.edit(row / f"oracle-{seed}.json", change)


def at_best(row, change, seed=0):
    """Change the map_at_r that stands at the step which validation chose for fold 0."""
    best = seed_of(row, seed)["best_steps"][0]

    def edit(body):
        fold = body["folds"][0]
        place = fold["step"].index(best)
        fold["map_at_r"][place] = change(fold["map_at_r"][place])

    watch(row, edit, seed)


def one_more_step(row):
    def edit(body):
        for fold in body["folds"]:
            for values in fold.values():
                values.append(values[-1])
            fold["step"][-1] += 20

    watch(row, edit)


def one_step_less(row):
    """Leave out the step that tested best, so that the gap is smaller."""

    def edit(body):
        for values in body["folds"][0].values():
            del values[0]

    watch(row, edit)


def shorter(row):
    """Say that the run took a step less than was watched."""
    edit_run(
        row,
        lambda body: body["counts"].update(
            {k: body["counts"][k] - 16 for k in ("images_protocol", "images_trained")}
        ),
    )


def promoted(row):
    """Put a further search, as it is, in the row's place."""
    for path in (row / "search-2").iterdir():
        shutil.copy(path, row / path.name)
    for path in (*row.glob("oracle-*.json"), row / "search-2"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def renumber(row, repeat):
    """Give a search another number, and make its name and every id right again."""

    def change(body):
        body["identity"].pop("search_repeat", None)
        body["identity"].update({"search_repeat": repeat} if repeat else {})
        body["row"] = f"ms (search {repeat + 1})" if repeat else "ms"

    edit_cell(row, change)


def both_ways(row):
    """Hand the further search in as the row, made right, and keep it beside it too."""
    for path in (row / "search-2").iterdir():
        shutil.copy(path, row / path.name)
    for path in row.glob("oracle-*.json"):
        path.unlink()
    renumber(row, 0)


def swapped(row):
    """Exchange row and further search, ids as they are."""
    for path in list((row / "search-2").iterdir()):
        mine = row / path.name
        content = mine.read_bytes()
        mine.write_bytes(path.read_bytes())
        path.write_bytes(content)


def numbered(row, number):
    (row / "search-2").rename(row / f"search-{number}")
    renumber(row / f"search-{number}", number - 1)


def copied_seeds(row):
    take_runs(row / "search-2", row, {0: 0, 1: 1})


def copied_trials(row):
    trials = [json.loads(line) for line in (row / "trials.jsonl").read_text().splitlines()]

    def change(own):
        for mine, theirs in zip(own, trials, strict=True):
            mine.update(folds=theirs["folds"], value=theirs["value"])

    rows.edit_trials(row / "search-2", change)


def worse_choice(row):
    """Choose the trial of the further search that did not come out best."""
    lines = (row / "search-2" / "trials.jsonl").read_text().splitlines()
    chosen = cell_of(row / "search-2")["chosen"]["trial"]
    other = json.loads(lines[1 - chosen])
    names = {"trial": other["number"], "settings": other["settings"], "value": other["value"]}
    edit_cell(row / "search-2", lambda body: body["chosen"].update(names))


def file_of_another_seed(row):
    shutil.copy(row / "oracle-1.json", row / "oracle-0.json")


def seed_under_another_name(row):
    shutil.copy(row / "oracle-1.json", row / "oracle-0.json")
    watch(row, lambda body: body.update(seed=0))


def without_search(row):
    """Put a further search beside a row that has nothing to search."""
    target = row.parent / "untrained" / "search-2"
    shutil.copytree(row.parent / "untrained", target, ignore=shutil.ignore_patterns("claim.toml"))

    def change(body):
        body["identity"]["search_repeat"] = 1
        body["row"] = "untrained (search 2)"

    edit_cell(target, change)


def edited(row):
    path = row / "oracle-0.json"
    value = json.loads(path.read_text())["folds"][0]["map_at_r"][0]
    path.write_text(path.read_text().replace(repr(value), repr(round(value / 2, 6)), 1))


FORGERIES = {
    "a further search in the row's place": (promoted, "a row is its cell's first search"),
    "row and further search exchanged": (swapped, "a row is its cell's first search"),
    "a further search as the row and beside it": (both_ways, "of toy/toy/ms/seed-0.json"),
    "a search's number in the row's identity": (
        lambda row: renumber(row, 1), "identity.search_repeat 1: a row is its cell's first search"
    ),
    "number 0 said in the row's identity": (
        lambda row: edit_cell(row, lambda b: b["identity"].update(search_repeat=0)),
        "identity.search_repeat 0: left out where",
    ),
    "what means nothing said in the row's identity": (
        lambda row: edit_cell(row, lambda b: b["identity"].update(trunk_drawn=False)),
        "identity.trunk_drawn False: left out where",
    ),
    "a further search without its number": (
        lambda row: renumber(row / "search-2", 0), "search 2 has 1 @"
    ),
    "search 3 without search 2": (
        lambda row: numbered(row, 3), "lies there without search-2: searches are numbered"
    ),
    "search 3 in the folder of search 2": (
        lambda row: renumber(row / "search-2", 2), "identity.search_repeat 2: search 2 has 1"
    ),
    "the row's runs in a further search": (copied_seeds, "of toy/toy/ms/seed-0.json"),
    "the row's trials in a further search": (copied_trials, "the very scores of the trials of"),
    "a further search with another choice": (worse_choice, "the rule picks"),
    "a further search of other code": (
        lambda row: edit_cell(
            row / "search-2", lambda b: b["identity"].update(method_code="0" * 12)
        ),
        "identity.method_code: not the row's",
    ),
    "a further search with fewer trials": (
        lambda row: rows.edit_trials(row / "search-2", lambda t: t.pop()), "1 trials; the protocol"
    ),
    "a further search with a seed less": (
        lambda row: (row / "search-2" / "seed-1.json").unlink(), "is missing @ toy/toy/ms/search-2"
    ),
    "a further search with a better mean": (
        lambda row: edit_run(row / "search-2", lambda b: b["concatenated"].update(map_at_r=0.9)),
        "@ toy/toy/ms/search-2/seed-0.json",
    ),
    "a further search with a claim of its own": (
        lambda row: shutil.copy(row / "claim.toml", row / "search-2"),
        "does not belong into the folder of a further search @",
    ),
    "a further search inside a further search": (
        lambda row: shutil.copytree(row / "search-2", row / "search-2" / "search-3"),
        "does not belong into the folder of a further search @",
    ),
    "a file in place of a further search": (
        lambda row: (row / "search-3").write_text("{}"), "a file; expected a folder"
    ),
    "a further search of a row without one": (without_search, "a row that searches nothing"),
    "the watched run of another seed": (file_of_another_seed, "holds seed 1 @"),
    "the watched run of another seed, renamed": (
        seed_under_another_name, "ended with other embeddings than the run"
    ),
    "a watched run of another cell": (
        lambda row: watch(row, lambda b: b.update(cell="0" * 16)), "belongs to cell 0000"
    ),
    "a watched run of no run": (
        lambda row: (row / "oracle-0.json").rename(row / "oracle-7.json"),
        "belongs to no seed-7.json",
    ),
    "a lower value at the chosen step": (
        lambda row: at_best(row, lambda v: v - 1e-9), "which validation chose, has"
    ),
    "a higher value at the chosen step": (
        lambda row: at_best(row, lambda v: v + 1e-9), "which validation chose, has"
    ),
    "a step too many": (one_more_step, "ends at step 60; the protocol has 40"),
    "a step left out": (one_step_less, "validations; 40 steps have 3"),
    "more steps than the run took": (shorter, "ends after steps of"),
    "lists of unequal lengths": (
        lambda row: watch(row, lambda b: b["folds"][0]["map_at_r"].pop()), "unequal lengths"
    ),
    "no validation at all": (
        lambda row: watch(row, lambda b: [v.clear() for v in b["folds"][0].values()]),
        "List should have at least 1 item",
    ),
    "a fold less": (lambda row: watch(row, lambda b: b["folds"].pop()), "1 folds; the run has 2"),
    "half a hit along the way": (
        lambda row: watch(row, lambda b: b["folds"][1]["precision_at_1"].__setitem__(0, 0.12345)),
        "precision_at_1 0.12345 is no multiple of 1/",
    ),
    "a map_at_r above its r_precision": (
        lambda row: watch(row, lambda b: b["folds"][1]["map_at_r"].__setitem__(0, 0.999)),
        "map_at_r 0.999 above r_precision",
    ),
    "an edit without its checksum": (edited, "its checksum is not that of its content"),
    "an unknown field": (
        lambda row: watch(row, lambda b: b.update(note="x")), "note: Extra inputs"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_named(name, results):
    forge, expected = FORGERIES[name]
    forge(results / MS)
    lines = said(results)
    assert any(expected in line for line in lines), lines
    assert not any(TRIPLET in line.partition(" @ ")[2] for line in lines), "no other row"


# --- a search is bound to its number --------------------------------------------------------------

SPACE = {
    "options": Choice(("a", "b"), default="a"),
    "rate": Real(1e-4, 1.0, default=0.01, log=True),
    "share": Real(0.0, 0.5, default=0.1),
}


def search_drawn(cell, repeat, count=4, startup=3):
    """Return a search that lies in the row's place, with the trials that one of another id makes.

    Args:
        cell: the row's cell.
        repeat: whose id draws the settings, counted from 0.
        count: of trials.
        startup: of the search rule.
    """
    rule = SearchRule(trials=count, startup_trials=startup)
    identity = json.loads(json.dumps(cell.identity))
    identity["rules"]["search"].update(startup_trials=startup)
    own = {**identity, "search_repeat": repeat} if repeat else identity
    done, trials = [], []
    for number in range(count):
        settings = suggestions.suggest(schema.cell_id(own), rule, SPACE, done)
        done.append(TrialRecord("id", "cell", number, settings, "done", 0.1 * number, [0.1]))
        trials.append(SimpleNamespace(settings=settings))
    body = cell.model_dump(by_alias=True)
    return (
        SimpleNamespace(search=1, trials=trials),
        schema.Cell.model_validate({**body, "identity": identity}),
    )


@pytest.mark.parametrize("startup", [2, 3, 9])
@pytest.mark.parametrize("repeat", [0, 1, 2, 9])
def test_settings_tell_which_search_drew_them(repeat, startup, submitted):
    """Who searched again and hands that in as the row has the other id's settings."""
    cell = read_row(submitted / "results", submitted / "results" / MS).cell
    # A space as a row's file has it, in another order than the method's
    space = dict(reversed(SPACE.items()))
    search, of = search_drawn(cell, repeat, startup=startup)
    assert searches.other_search(search, of, space) == (repeat + 1 if repeat else None)
    search.search = repeat + 1
    assert searches.other_search(search, of, space) is None, "it lies where it belongs"
    search.search, expected = 4, repeat + 1
    assert searches.other_search(search, of, space) == expected


def test_two_values_of_another_search_are_proof(submitted):
    """One digit moved in one trial hides nothing; in all but one trial it does."""
    cell = read_row(submitted / "results", submitted / "results" / MS).cell
    search, of = search_drawn(cell, 1, startup=5)

    def moved(*numbers):
        return SimpleNamespace(
            search=1,
            trials=[
                SimpleNamespace(
                    settings={
                        k: v * (1 + 1e-6) if isinstance(v, float) and n in numbers else v
                        for k, v in trial.settings.items()
                    }
                )
                for n, trial in enumerate(search.trials)
            ],
        )

    assert searches.other_search(moved(), of, SPACE) == 2
    assert searches.other_search(moved(1), of, SPACE) == 2
    assert searches.other_search(moved(2, 4), of, SPACE) == 2
    assert searches.other_search(moved(1, 2, 3, 4), of, SPACE) is None


def test_settings_that_no_id_draws_say_nothing(submitted):
    """Another sampler, another scipy, a space of options, a search without such a beginning."""
    cell = read_row(submitted / "results", submitted / "results" / MS).cell
    search, of = search_drawn(cell, 1)
    moved = [
        SimpleNamespace(
            settings={
                k: v * (1 + 1e-9) if isinstance(v, float) else v for k, v in t.settings.items()
            }
        )
        for t in search.trials
    ]
    assert searches.other_search(SimpleNamespace(search=1, trials=moved), of, SPACE) is None
    assert searches.other_search(search, of, {"options": SPACE["options"]}) is None
    search, of = search_drawn(cell, 1, startup=1)
    assert searches.other_search(search, of, SPACE) is None


def test_a_row_with_the_settings_of_another_search_is_named(results):
    """All ids made right, as after an exchange; the settings are those of the other id."""
    row = results / MS
    (results / SEARCH).rename(results.parent / "aside")
    for path in row.glob("oracle-*.json"):
        path.unlink()

    def startup(body):
        body["identity"]["rules"].update(version=1)
        body["identity"]["rules"]["search"].update(startup_trials=2)
        body.update(protocol_version=1, protocol_hash="0" * 12)

    edit_cell(row, startup)
    assert said(results) == []
    other = schema.cell_id({**cell_of(row)["identity"], "search_repeat": 1})
    drawn = next(spread(other, load("method", "ms").space("toy", "wide")))
    rows.edit_trials(row, lambda trials: trials[1].update(settings=drawn))
    if cell_of(row)["chosen"]["trial"] == 1:
        edit_cell(row, lambda body: body["chosen"].update(settings=drawn))
        for seed in (0, 1):
            edit_run(row, lambda body: body.update(settings=drawn), seed)
    edit_cell(row, lambda body: None)
    expected = f"its settings are those that search 2 of its cell draws @ {MS}/trials.jsonl"
    assert said(results) == [expected]


# --- where a watched training was validated -------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "clr", "swa", "swa_clr", "sam"])
def test_the_steps_of_every_schedule_pass_and_others_do_not(name, submitted):
    """Against the schedule that trainings go by, with improvements drawn at random."""
    row = read_row(submitted / "results", submitted / "results" / MS)
    pace = Pace(max_steps=250, steps_per_epoch=5, validate_every=40, patience=1)
    recipe = load("recipe", name)
    if recipe.cycle:
        pace = replace(pace, max_steps=2 * recipe.cycle.half_epochs * 5 * 6)
    body = row.cell.model_dump(by_alias=True)
    body["identity"]["rules"]["pace"] = asdict(pace)
    body["identity"]["recipe"] = recipe.values()
    cell, rng = schema.Cell.model_validate(body), np.random.default_rng(0)
    for _ in range(30):
        steps = scheduled(recipe, pace, rng)
        assert watching._steps(fold_of(steps), cell) == ""
        wrong = [steps[:-1], steps[1:], [*steps, steps[-1] + 1], [s + 1 for s in steps]]
        wrong += [[*steps[:-1], steps[-1] - 1], [*steps, steps[-1]], steps[::-1]]
        if not recipe.averaging:  # a shorter training is told by the images of the run
            wrong = [w for w in wrong if w != steps[:-1]]
        for other in wrong if len(steps) > 2 else ():
            assert watching._steps(fold_of(other), cell) != "", (steps, other)


def scheduled(recipe, pace, rng):
    """Return the steps at which a training is watched, averaged weights last."""
    schedule, best, steps = Schedule(recipe, pace), 0, []
    for step in range(pace.max_steps + 1):
        if schedule.validates(step):
            steps.append(step)
            best = step if rng.random() < 0.4 else best
            schedule.note_validation(step, best)
            if step >= schedule.last:
                break
    return [*steps, steps[-1]] if recipe.averaging else steps


def fold_of(steps, values=None):
    found = values or [0.0] * len(steps)
    return WatchedFold(step=steps, precision_at_1=found, r_precision=found, map_at_r=found)


def test_a_forged_budget_costs_no_memory(submitted):
    body = read_row(submitted / "results", submitted / "results" / MS).cell.model_dump(
        by_alias=True
    )
    body["identity"]["rules"]["pace"].update(max_steps=10**9, validate_every=1)
    cell = schema.Cell.model_validate(body)
    assert "2 validations; 1000000000 steps have" in watching._steps(fold_of([0, 10**9]), cell)


def test_the_gap_by_hand():
    """Fold 0 tested best at step 20 and kept step 40; fold 1 kept its best."""
    scores = dict.fromkeys(("precision_at_1", "r_precision"), 0.5)
    run = schema.Run.model_construct(separated=schema.Scores(**scores, map_at_r=0.25))
    folds = [fold_of([0, 20, 40], [0.1, 0.5, 0.2]), fold_of([0, 20, 40], [0.1, 0.2, 0.3])]
    found = Watched.model_construct(folds=folds)
    assert found.claimed("map_at_r") == pytest.approx(0.4)
    assert found.gap(run, "map_at_r") == pytest.approx(0.15)
    assert math.isnan(found.gap(schema.Run.model_construct(separated=None), "map_at_r"))


# --- beside rows that are signed, stale, committed ------------------------------------------------


@pytest.mark.skipif(not signatures.can_check(), reason="no ssh-keygen here")
def test_a_signature_holds_when_evidence_comes_later_or_goes(results, tmp_path):
    key = tmp_path / "key"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(words, check=True, capture_output=True)
    aside = tmp_path / "aside"
    aside.mkdir()
    evidence = [results / SEARCH, *(results / MS).glob("oracle-*.json")]
    for path in evidence:
        shutil.move(path, aside / path.name)
    signatures.sign(results, results / MS, "claim", key)
    assert said(results) == []
    for path in evidence:
        shutil.move(aside / path.name, path)
    assert said(results) == []
    edit_run(results / MS, lambda body: body.update(peak_memory_mb=1))
    assert any("is no signature of these files" in line for line in said(results))


def older(row):
    def change(body):
        body["identity"]["rules"].update(version=1, eval_batch=8)
        body.update(protocol_version=1, protocol_hash="0" * 12)

    edit_cell(row, change)


def test_a_stale_row_keeps_its_evidence(results, capsys):
    for row in (results / MS, results / SEARCH):
        older(row)
    for path in (results / MS).glob("oracle-*.json"):
        rows.edit(path, lambda body: body.update(cell=cell_of(results / MS)["id"]))
    assert said(results) == []
    assert main(["verify", str(results)]) == 0
    assert "3 rows, 1 stale; 0 problems" in capsys.readouterr().err


def test_a_row_that_was_made_anew_does_not_keep_the_old_evidence(results):
    older(results / MS)
    lines = said(results)
    assert any(
        "identity.rules, protocol_version, protocol_hash: not the row's" in line for line in lines
    )
    assert any("oracle-0.json" in line and "belongs to cell" in line for line in lines)


def test_evidence_is_written_once(results):
    rows.git(results.parent, "add", "-A")
    rows.git(results.parent, "commit", "--quiet", "-m", "rows and evidence")
    edit_run(results / SEARCH, lambda body: body.update(peak_memory_mb=1))
    (results / MS / "oracle-0.json").unlink()
    lines = said(results)
    assert f"was changed since it was submitted @ {SEARCH}/seed-0.json" in lines
    assert f"was removed since it was submitted @ {MS}/oracle-0.json" in lines


@pytest.mark.parametrize("name", ["search-3", "search-2/seed-0.json", "oracle-0.json"])
def test_links_and_pipes_are_not_opened(name, results, tmp_path):
    path = results / MS / name
    if path.exists():
        path.unlink()
    path.symlink_to(results / TRIPLET, target_is_directory=True)
    assert any(f"a link; expected a file or folder @ {MS}/{name}" in line for line in said(results))
    path.unlink()
    os.mkfifo(path)
    assert any(f"a pipe; expected a file @ {MS}/{name}" in line for line in said(results))
