"""The oracle gap: seen on request, in final runs alone, and it moves nothing."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest

from benchmark import cli
from benchmark.study import records
from benchmark.study.folder import CellKey, load_study
from benchmark.study.records import JobRecord, RunRecord
from benchmark.submissions import watching
from benchmark.submissions.packing import watched_fields
from benchmark.submissions.schema import Scores
from benchmark.submissions.watched import WatchedFold
from benchmark.tables.frames import make_tables
from benchmark.training import oracle, splits
from benchmark.training.job import Job, execute
from protocols.discovery import load
from protocols.metrics import METRICS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PLAIN = load("protocol", "toy")
WATCHED = PLAIN.derive(oracle_gap=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    digest = load("dataset", "toy").digest()
    return splits.DataSource("toy", digest, None, tmp_path_factory.mktemp("store"))


def outcome(source, protocol, stage="final", method="ms", recipe="adam"):
    cell = CellKey("id", "toy", "tiny", recipe, method, method, trains=method != "untrained")
    return execute(Job(cell, protocol, load("recipe", recipe), stage, 0, 0, {}, source, "cpu"))


def unwatched(record):
    return replace(record, measured={}, oracle=[], openings=[])


@pytest.mark.parametrize("recipe", ["adam", "swa"])
def test_watching_moves_no_number(source, recipe):
    plain = outcome(source, PLAIN, recipe=recipe)
    watched = outcome(source, WATCHED, recipe=recipe)
    assert plain.record.status == "done", plain.record.detail
    assert unwatched(plain.record) == unwatched(watched.record)
    assert plain.vectors == watched.vectors, "the embeddings are the same bits"
    # What a row of results/ would hold of it stands, step for step.
    run = SimpleNamespace(cell="id", seed=0, embeddings_sha256="0" * 64)
    (fold,) = watched_fields(run, [watched.record])["folds"]
    last, validations = fold["step"][-1], len(watched.record.history)
    assert len(fold["step"]) == validations
    assert fold["step"].count(last) == 1 + (recipe == "swa"), "averaged weights come last"
    tested = Scores(**{name: plain.record.test[name] for name in METRICS})
    found = SimpleNamespace(best_steps=[plain.record.best_step], folds=[tested])
    assert watching._at_best(WatchedFold(**fold), 0, found) == ""
    assert last * PLAIN.batch_size == plain.record.counts["images_protocol"]


def test_every_validation_is_one_row_and_one_opening(source):
    record = outcome(source, WATCHED).record
    assert [row["step"] for row in record.oracle] == [row["step"] for row in record.history]
    assert len(record.openings) == len(record.history) + 1
    for row, line in zip(record.oracle, record.openings, strict=False):
        assert f"watch step {row['step']} for the oracle gap" in line
    at_best = next(row for row in record.oracle if row["step"] == record.best_step)
    assert {k: v for k, v in at_best.items() if k != "step"} == record.test


def test_a_reference_row_has_no_gap(source):
    record = outcome(source, WATCHED, method="untrained").record
    assert oracle.claimed([record], "map_at_r") == record.test


def test_a_search_cannot_reach_the_test_classes(source, monkeypatch):
    def refuse(*_):
        raise AssertionError("the test split was opened")

    monkeypatch.setattr(splits, "open_test", refuse)
    record = outcome(source, WATCHED, stage="search").record
    assert (record.status, record.oracle, record.openings) == ("done", [], [])


def test_without_the_option_nothing_is_watched(source):
    record = outcome(source, PLAIN).record
    assert record.oracle == []
    assert len(record.openings) == 1
    assert oracle.claimed([record], "map_at_r") is None


def test_the_claim_is_each_folds_best_epoch_on_test():
    rows = [
        [{"step": 0, "map_at_r": 0.1, "precision_at_1": 0.9}, {"step": 5, "map_at_r": 0.3}],
        [{"step": 0, "map_at_r": 0.2, "precision_at_1": 0.5}, {"step": 5, "map_at_r": 0.2}],
    ]
    rows[0][1]["precision_at_1"] = 0.6
    rows[1][1]["precision_at_1"] = 0.7
    jobs = [JobRecord("j", "c", "final", 0, k, {}, "done", oracle=r) for k, r in enumerate(rows)]
    # Fold 0 at step 5; fold 1 at step 0, the earlier of two equals.
    expected = {"map_at_r": fmean([0.3, 0.2]), "precision_at_1": fmean([0.6, 0.5])}
    assert oracle.claimed(jobs, "map_at_r") == expected
    assert oracle.claimed([*jobs, replace(jobs[0], oracle=[])], "map_at_r") is None
    assert oracle.claimed([], "map_at_r") is None


def test_the_rules_are_the_same_and_the_hash_is_not():
    assert WATCHED.rules_hash() == PLAIN.rules_hash(), "else the search would draw other settings"
    assert WATCHED.hash() != PLAIN.hash()
    assert WATCHED.overrides == {"oracle_gap": True}
    assert replace(WATCHED, oracle_gap=False).hash() == PLAIN.hash()


@pytest.fixture(scope="module")
def studies_of_both_kinds(tmp_path_factory):
    root = tmp_path_factory.mktemp("both")
    words = ["run", "--protocol", "toy", "--methods", "ms", "--seeds", "1", "--jobs", "1"]
    for name, extra in (("plain", []), ("watched", ["--oracle-gap"])):
        command = [sys.executable, "-m", "benchmark", *words, *extra, "--out", str(root / name)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
    return root / "plain", root / "watched"


def test_a_whole_study_has_the_same_selected_numbers(studies_of_both_kinds):
    plain, watched = (load_study(out) for out in studies_of_both_kinds)
    assert plain.cells == watched.cells
    for cell in plain.cells:
        assert plain.choice(cell) == watched.choice(cell)
        first, second = plain.run(cell, 0), watched.run(cell, 0)
        assert len(second.openings) > len(first.openings)
        same = {"measured": {}, "openings": [], "oracle": None}
        assert replace(first, **same) == replace(second, **same)
    frames = [make_tables(study).runs for study in (plain, watched)]
    assert "oracle_map_at_r" not in frames[0], "a column only where it was asked for"
    gaps = frames[1]["oracle_map_at_r"] - frames[1]["separated_map_at_r"]
    assert (gaps >= 0).all()
    assert frames[0].equals(frames[1].drop(columns="oracle_map_at_r"))


@pytest.mark.parametrize(("kind", "extra"), [("plain", ["--oracle-gap"]), ("watched", [])])
def test_the_two_kinds_share_no_folder(studies_of_both_kinds, tmp_path, capsys, kind, extra):
    out = tmp_path / kind
    shutil.copytree(studies_of_both_kinds[kind == "watched"], out)
    before = json.loads((out / "study.json").read_text())
    words = ["run", "--protocol", "toy", "--methods", "ms", "--seeds", "1", *extra]
    assert cli.main([*words, "--out", str(out)]) == cli.BAD_INPUT
    assert "--oracle-gap" in capsys.readouterr().err
    assert json.loads((out / "study.json").read_text()) == before


def test_records_from_before_the_option_still_read(tmp_path):
    run = RunRecord("r", "c", 0, {}, "done", [])
    records.write(tmp_path / "run.json", run)
    body = json.loads((tmp_path / "run.json").read_text())
    del body["oracle"], body["sha256"]
    body["sha256"] = records._checksum(body)
    (tmp_path / "run.json").write_text(json.dumps(body))
    assert records.load(tmp_path / "run.json") == run
