from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from benchmark.mirror import client, store, tracking
from benchmark.mirror.client import connect
from benchmark.study import places
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import (
    CellRecord,
    ChoiceRecord,
    JobRecord,
    Record,
    RunRecord,
    TrialRecord,
)
from protocols.errors import StoreError
from protocols.space import Settings
from protocols.specs.toy import PROTOCOL
from tests.proven import put

MADE_OF = {"dataset_digest": "e2" * 6}
CELL = CellKey(places.cell_id(MADE_OF), "toy", "tiny", "adam", "ms", "ms")
OTHER = CellKey(
    places.cell_id({**MADE_OF, "other": True}),
    "toy",
    "tiny",
    "adam",
    "untrained",
    "pretrained",
    trains=False,
)
SETTINGS: Settings = {"alpha": 2.5, "beta": 50, "mine": True}
AXES = {"method": "ms", "dataset": "toy", "trunk": "tiny", "recipe": "adam"}
BEST = {"map_at_r": 0.25, "precision_at_1": 0.5}
TEST = {"map_at_r": 0.125, "precision_at_1": 0.375}


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database costs two seconds of migrations: made once, then copied."""
    out = tmp_path_factory.mktemp("empty")
    database = out / "mlflow.db"
    connect(f"sqlite:///{database}").client.search_experiments()
    return database


@pytest.fixture
def study(tmp_path: Path, empty_database: Path) -> Study:
    """A finished study of one cell, with a blank in its path, and an empty database."""
    return make_study(tmp_path / "my runs", empty_database, CELL)


@pytest.fixture(scope="module")
def mirrored(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> tuple[Study, dict[str, Any]]:
    """A mirrored study of two cells and what MLflow shows of it, for tests that only read."""
    study = make_study(tmp_path_factory.mktemp("mirrored"), empty_database, CELL, OTHER)
    assert mirror(study) == []
    return study, content(study)


def make_study(out: Path, database: Path, *cells: CellKey) -> Study:
    study = Study(out, PROTOCOL, cells)
    study.save()
    for cell in cells:
        identity = MADE_OF if cell is CELL else {**MADE_OF, "other": True}
        place = (cell.dataset, cell.trunk, cell.recipe, cell.method, cell.row)
        put(study, cell, CellRecord(cell.id, "toy", 1, *place, identity=identity))
        if cell is CELL:
            trial(study, 0)
        put(study, cell, ChoiceRecord(f"{cell.method}-choice", cell.id, "best", 0, SETTINGS, 0.25))
        for seed in range(2):
            run(study, cell, seed, score=[0.125, 0.25][seed])
    (out / "tables").mkdir()
    (out / "tables" / "summary.csv").write_text("method,mean\nms,0.125\n")
    shutil.copy(database, out / "mlflow.db")
    return study


def named(kind: str, cell: CellKey, *what: Any) -> str:
    """Return what MLflow calls a job (stage, number, fold), trial (number) or run (seed)."""
    make: Any = {"job": places.job_id, "trial": places.trial_id, "run": places.run_id}[kind]
    return f"{kind}:{make(cell.id, *what, SETTINGS if cell is CELL else {})}"


def job(study: Study, cell: CellKey, stage: Any, number: int, fold: int) -> None:
    final = stage == "final"
    put(
        study,
        cell,
        JobRecord(
            id=f"{cell.method}-{stage}-{number}-{fold}",
            cell=cell.id,
            stage=stage,
            number=number,
            fold=fold,
            settings=SETTINGS if cell is CELL else {},
            status="done",
            steps=20,
            best_step=10,
            history=[
                {"step": 0, "map_at_r": 0.1, "precision_at_1": 0.2},
                {"step": 10, "loss/ms+center": 0.9, **BEST},
                {"step": 20, "loss/ms+center": 0.7, "map_at_r": 0.2, "precision_at_1": 0.4},
            ],
            validation=BEST,
            test=TEST if final else None,
            openings=["48 test images of toy opened to score step 10"] if final else [],
            counts={"images_trained": 320},
            measured={"seconds": 2.5, "failed_attempts": [], "environment": {"python": "3"}},
        ),
    )


def trial(study: Study, number: int) -> TrialRecord:
    for fold in range(study.protocol.folds):
        job(study, CELL, "search", number, fold)
    record = TrialRecord(f"trial-{number}", CELL.id, number, SETTINGS, "done", 0.25, [0.25, 0.25])
    return put(study, CELL, record)


def run(study: Study, cell: CellKey, seed: int, score: float = 0.125) -> RunRecord:
    for fold in range(study.protocol.folds):
        job(study, cell, "final", seed, fold)
    record = RunRecord(
        id=f"{cell.method}-run-{seed}",
        cell=cell.id,
        seed=seed,
        settings=SETTINGS if cell is CELL else {},
        status="done",
        folds=[TEST, TEST],
        separated=TEST,
        concatenated={**TEST, "map_at_r": score},
        validation=BEST,
        measured={"seconds": 5.0, "environment": {"python": "3.11.9", "torch": "2.11.0"}},
    )
    return put(study, cell, record)


def failed(study: Study, seed: int) -> RunRecord:
    record = RunRecord(
        f"ms-run-{seed}", CELL.id, seed, SETTINGS, "failed", [None, None], "oom", "fold 0: full"
    )
    return put(study, CELL, record)


def logged(study: Study) -> list[tuple[CellKey, Record]]:
    """Every record in the order in which a coordinator writes them."""
    found: list[tuple[CellKey, Record]] = []
    for cell in study.cells:
        for trial in study.trials(cell):
            found += [(cell, j) for j in study.jobs(cell, "search", trial.number) if j]
            found.append((cell, trial))
        if choice := study.choice(cell):
            found.append((cell, choice))
        for run in study.runs(cell):
            found += [(cell, j) for j in study.jobs(cell, "final", run.seed) if j]
            found.append((cell, run))
    return found


def artifacts(study: Study) -> list[Path]:
    return [study.out / "tables" / "summary.csv"]


def mirror(study: Study, uri: str | None = None, timeout_s: float = 60.0) -> list[str]:
    """Mirror a study as a coordinator does; return the warnings."""
    said: list[str] = []
    tracker = tracking.Mirror(study, said.append, uri)
    for cell, record in logged(study):
        tracker.log(cell, record)
    tracker.finish(artifacts(study), timeout_s)
    return said


def runs_in(study: Study, uri: str | None = None) -> dict[str, Any]:
    """MLflow's runs by record_id; none may be there twice."""
    client = connect(store.uri_of(study, uri)).client
    experiment = client.get_experiment_by_name(f"toy v{PROTOCOL.version} {PROTOCOL.rules_hash()}")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    found = {run.data.tags["record_id"]: run for run in runs}
    assert len(found) == len(runs)
    return found


def content(study: Study, uri: str | None = None) -> dict[str, Any]:
    """All that MLflow shows of the records, free of MLflow's own random ids."""
    client = connect(store.uri_of(study, uri)).client
    found = runs_in(study, uri)
    keys = {run.info.run_id: key for key, run in found.items()}
    shown = {}
    for key, run in found.items():
        if key == "tables":
            continue  # made now, not when a record was
        history = {
            name: [(m.value, m.step, m.timestamp) for m in client.get_metric_history(id_, name)]
            for id_ in [run.info.run_id]
            for name in run.data.metrics
        }
        tags = {k: v for k, v in run.data.tags.items() if k != "mlflow.parentRunId"}
        parent = run.data.tags.get("mlflow.parentRunId")
        info = (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time)
        inputs = sorted(
            (i.tags[0].value, i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs
        )
        above = keys[parent] if parent else None
        shown[key] = (above, info, tags, run.data.params, history, inputs)
    return shown


def test_every_record_is_shown_in_its_place(mirrored: tuple[Study, dict[str, Any]]) -> None:
    shown = mirrored[1]
    above = {key: entry[0] for key, entry in shown.items()}
    assert len(shown) == 2 + 1 * (1 + 2) + 2 * 2 * (1 + 2)  # cells, trials, runs, their folds
    assert (
        above[named("job", CELL, "search", 0, 0)]
        == above[named("job", CELL, "search", 0, 1)]
        == named("trial", CELL, 0)
    )
    assert above[named("job", OTHER, "final", 1, 0)] == named("run", OTHER, 1)
    assert above[named("trial", CELL, 0)] == above[named("run", CELL, 1)] == f"cell:{CELL.id}"
    assert above[f"cell:{CELL.id}"] is None
    assert {entry[1][1] for entry in shown.values()} == {"FINISHED"}


def test_a_cell_shows_setting_means_and_environment(
    mirrored: tuple[Study, dict[str, Any]],
) -> None:
    _, info, shown, params, history, _ = mirrored[1][f"cell:{CELL.id}"]
    assert info[0] == "ms toy tiny adam"
    own = {name: value for name, value in params.items() if not name.startswith("protocol.")}
    assert own == {"alpha": "2.5", "beta": "50", "mine": "True", **AXES}
    rules = {"batch_size": PROTOCOL.batch_size, "search.trials": PROTOCOL.search.trials}
    rules |= {"image.resize_px": PROTOCOL.image.resize_px, "precision": PROTOCOL.precision}
    assert {f"protocol.{k}": str(v) for k, v in rules.items()}.items() <= params.items()
    assert shown["protocol_hash"] == PROTOCOL.hash()
    assert [point[:2] for point in history["seeds"]] == [(2, 0)]
    assert [point[:2] for point in history["seconds"]] == [(10.0, 0)]
    tags = {"rule": "best", "chosen_trial": "0", "method": "ms", "dataset": "toy", "trunk": "tiny"}
    tags |= {
        "recipe": "adam",
        "protocol": "toy",
        "protocol_version": str(PROTOCOL.version),
        "kind": "cell",
    }
    tags |= {"rules_hash": PROTOCOL.rules_hash(), "torch": "2.11.0", "failed_runs": "0"}
    assert tags.items() <= shown.items()
    assert [point[:2] for point in history["test_concatenated_map_at_r"]] == [(0.1875, 0)]
    assert [point[:2] for point in history["test_separated_map_at_r"]] == [(0.125, 0)]


def test_runs_and_trials_show_their_numbers(mirrored: tuple[Study, dict[str, Any]]) -> None:
    found = runs_in(mirrored[0])
    trial, run = found[named("trial", CELL, 0)].data, found[named("run", CELL, 1)].data
    assert trial.metrics == {"best_val_map_at_r": 0.25}
    shared = {"alpha": "2.5", "beta": "50", "mine": "True", **AXES}
    assert trial.params == {**shared, "trial": "0"}
    assert run.params == {**shared, "seed": "1"}
    assert {"stage": "search", "number": "0", "kind": "trial"}.items() <= trial.tags.items()
    assert {"stage": "final", "seed": "1", "kind": "run"}.items() <= run.tags.items()
    assert run.metrics["test_separated_precision_at_1"] == 0.375
    assert run.metrics["best_val_map_at_r"] == 0.25
    assert run.metrics["seconds"] == 5.0


def test_a_fold_shows_curves_over_training_steps(mirrored: tuple[Study, dict[str, Any]]) -> None:
    study, shown = mirrored
    _, info, tags, params, history, _ = shown[named("job", CELL, "final", 0, 1)]
    written_ms = study.job_path(CELL, "final", 0, 1).stat().st_mtime_ns // 10**6
    assert info == ("ms toy seed 0 fold 1", "FINISHED", written_ms - 2500, written_ms)
    assert {"seed": "0", "fold": "1", "stage": "final"}.items() <= tags.items()
    assert params["alpha"] == "2.5"
    curve = [(value, step) for value, step, _ in history["val_map_at_r"]]
    assert curve == [(0.1, 0), (0.25, 10), (0.2, 20)]
    assert [point[:2] for point in history["loss/ms_center"]] == [(0.9, 10), (0.7, 20)]
    assert history["best_val_map_at_r"] == [(0.25, 0, written_ms)]  # a bar, not a curve
    assert history["test_map_at_r"] == [(0.125, 0, written_ms)]
    assert params.items() >= {**AXES, "fold": "1"}.items()


def test_data_digests_tell_folds_and_splits_apart_and_agree_between_methods(
    mirrored: tuple[Study, dict[str, Any]],
) -> None:
    shown = mirrored[1]
    searched, tested = (
        shown[named("job", CELL, "search", 0, 0)][5],
        shown[named("job", CELL, "final", 0, 0)][5],
    )
    assert [line[:2] for line in tested] == [
        ("test", "toy"),
        ("train", "toy"),
        ("validation", "toy"),
    ]
    assert searched == tested[1:]  # a search job never opened the test split
    assert tested == shown[named("job", OTHER, "final", 1, 0)][5]
    other_fold = shown[named("job", CELL, "final", 0, 1)][5]
    assert other_fold[0] == tested[0]
    assert {line[2] for line in other_fold[1:]}.isdisjoint(line[2] for line in tested[1:])
    assert all(len(line[2]) <= 36 for line in tested)


def test_tables_are_artifacts_of_one_run_and_follow_changes(study: Study, tmp_path: Path) -> None:
    assert mirror(study) == []
    (study.out / "tables" / "summary.csv").write_text("changed")
    tracking.sync(study, artifacts(study))
    client = connect(store.uri_of(study)).client
    id_ = runs_in(study)["tables"].info.run_id
    path = client.download_artifacts(id_, "tables/summary.csv", str(tmp_path))
    assert Path(path).read_text() == "changed"
    assert (study.out / "mlartifacts").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my runs", "summary.csv"]


def test_a_second_sync_writes_nothing(study: Study) -> None:
    first = tracking.sync(study, artifacts(study))
    before = content(study)
    second = tracking.sync(study, artifacts(study))
    assert (first.written, first.already) == (4, 0)
    assert (second.written, second.already) == (0, 4)
    assert content(study) == before


def test_mirror_and_sync_agree_and_a_lost_database_is_rebuilt(study: Study) -> None:
    assert mirror(study) == []
    before = content(study)
    assert not tracking.needs_sync(study)
    (study.out / "mlflow.db").unlink()
    (study.out / ".mlflow.db.1.part").write_bytes(b"left by a kill")
    os.utime(study.out / ".mlflow.db.1.part", (0, 0))
    assert tracking.needs_sync(study)
    # In a new process: MLflow keeps its connection to a deleted file for the life of this one.
    in_new_process(study, "tracking.sync(found, [])")
    assert not tracking.needs_sync(study)
    assert sorted(path.name for path in study.out.iterdir() if path.is_file()) == [
        "mirrored.json",
        "mlflow.db",
        "study.id",
        "study.json",
    ]
    assert content(study, renamed(study)) == before


def test_a_continued_study_is_neither_doubled_nor_left_with_holes(study: Study) -> None:
    late = [study.record_path(CELL, run) for run in study.runs(CELL)]
    kept = [path.rename(path.with_suffix(".later")) for path in late]
    assert mirror(study) == []
    assert runs_in(study)[f"cell:{CELL.id}"].info.status == "KILLED"
    for old, path in zip(kept, late, strict=True):
        old.rename(path)
    assert tracking.needs_sync(study)
    said: list[str] = []
    tracker = tracking.Mirror(study, said.append)
    tracker.log(CELL, study.runs(CELL)[1])  # the first was never logged, but is on disk
    tracker.finish(artifacts(study), 60.0)
    assert said == []
    assert len(content(study)) == 10
    assert runs_in(study)[f"cell:{CELL.id}"].info.status == "FINISHED"


def test_a_run_that_was_done_again_while_the_server_was_away_is_noticed(study: Study) -> None:
    tracking.sync(study, [])
    assert not tracking.needs_sync(study)
    run(study, CELL, 1, score=0.75)  # as --retry-failed leaves it: another record of that name
    assert tracking.needs_sync(study)
    assert tracking.sync(study, []).written == 1
    assert not tracking.needs_sync(study)


def test_a_finished_study_can_be_mirrored_without_new_records(study: Study) -> None:
    said: list[str] = []
    tracking.Mirror(study, said.append).finish(artifacts(study), 60.0)
    assert said == []
    assert len(content(study)) == 10
    assert not tracking.needs_sync(study)


def test_more_seeds_move_the_means_of_their_cell(study: Study) -> None:
    tracking.sync(study, [])
    more = study.extend([], replace(study.protocol, seeds=3))
    run(more, CELL, 2, score=0.75)
    tracking.sync(more, [])
    client = connect(store.uri_of(study)).client
    cell = runs_in(study)[f"cell:{CELL.id}"]
    history = client.get_metric_history(cell.info.run_id, "test_concatenated_map_at_r")
    assert [(point.value, point.step) for point in history] == [(0.1875, 0), (0.375, 0)]
    assert cell.info.status == "FINISHED"


def test_a_cell_shows_the_interval_of_what_the_tables_judge_by(study: Study) -> None:
    tracking.sync(study, [])
    two = set(runs_in(study)[f"cell:{CELL.id}"].data.metrics)
    more = study.extend([], replace(study.protocol, seeds=3))
    run(more, CELL, 2, score=0.75)
    tracking.sync(more, [])
    shown = runs_in(study)[f"cell:{CELL.id}"].data.metrics
    values = [r.concatenated["map_at_r"] for r in more.runs(CELL)]
    spread = scipy.stats.tstd(values)
    half = scipy.stats.t.ppf(0.975, 2) * spread / 3**0.5
    name = "test_concatenated_map_at_r"
    assert shown[f"{name}_sd"] == pytest.approx(spread)
    assert shown[f"{name}_ci_low"] == pytest.approx(shown[name] - half)
    assert shown[f"{name}_ci_high"] == pytest.approx(shown[name] + half)
    # Two runs have a spread and no interval; other metrics have neither.
    assert set(shown) - two == {
        f"test_{embedding}_map_at_r_{end}"
        for embedding in ("separated", "concatenated")
        for end in ("ci_low", "ci_high")
    }
    assert f"{name}_sd" in two
    assert not any(name.startswith("test_concatenated_precision_at_1_") for name in shown)


def test_what_a_kill_left_running_is_written_again(study: Study) -> None:
    tracking.sync(study, artifacts(study))
    before, client = content(study), connect(store.uri_of(study)).client
    found = runs_in(study)
    client.update_run(found[named("trial", CELL, 0)].info.run_id, status="RUNNING")
    client.update_run(found[named("job", CELL, "search", 0, 0)].info.run_id, status="RUNNING")
    client.delete_run(found[named("job", CELL, "search", 0, 1)].info.run_id)
    assert tracking.sync(study, artifacts(study)).written == 1
    assert content(study) == before


def test_a_failed_run_is_shown_with_its_reason_and_replaced_when_redone(study: Study) -> None:
    before = failed(study, 1)
    tracking.sync(study, [])
    found = runs_in(study)
    shown, cell = found[f"run:{before.id}"], found[f"cell:{CELL.id}"]
    assert (shown.info.status, shown.data.tags["reason"]) == ("FAILED", "oom")
    assert (cell.info.status, cell.data.tags["failed_runs"]) == ("FINISHED", "1")
    assert set(cell.data.metrics) == {"seeds", "seconds"}  # no mean over survivors
    run(study, CELL, 1)
    assert tracking.sync(study, []).written == 1
    found = runs_in(study)
    assert found[f"run:{before.id}"].info.status == "FINISHED"
    assert found[f"cell:{CELL.id}"].data.metrics["test_separated_map_at_r"] == 0.125


@pytest.mark.parametrize("stopped", [True, False])
def test_a_stopped_study_leaves_no_cell_running_and_is_reopened(
    study: Study, stopped: bool
) -> None:
    late = study.record_path(CELL, study.runs(CELL)[1])
    late.rename(late.with_suffix(".later"))
    said: list[str] = []
    tracker = tracking.Mirror(study, said.append)
    if stopped:
        tracker.log(CELL, study.trials(CELL)[0])
        tracker.stop(60.0)
        assert runs_in(study)[f"cell:{CELL.id}"].info.status == "KILLED"
    else:
        tracker.stop(60.0)  # nothing came, so MLflow is not asked
    assert said == []
    late.with_suffix(".later").rename(late)
    tracking.sync(study, [])
    assert runs_in(study)[f"cell:{CELL.id}"].info.status == "FINISHED"


def test_runs_of_an_earlier_layout_are_written_again_once(study: Study) -> None:
    tracking.sync(study, [])
    before, client = content(study), connect(store.uri_of(study)).client
    for known in runs_in(study).values():
        client.set_tag(known.info.run_id, "layout", "1")
    assert tracking.sync(study, []).written == 4
    assert content(study) == before
    assert tracking.sync(study, []).written == 0


def test_a_cell_that_left_the_study_leaves_mlflow(tmp_path: Path, empty_database: Path) -> None:
    study = make_study(tmp_path / "both", empty_database, CELL, OTHER)
    tracking.sync(study, [])
    left = replace(study, cells=(CELL,))
    assert tracking.sync(left, []).removed == 1
    shown = runs_in(left)
    assert f"cell:{CELL.id}" in shown
    assert {run.data.tags.get("method", "ms") for run in shown.values()} == {"ms"}
    assert tracking.sync(left, []).removed == 0


def test_a_failed_trial_has_no_score(study: Study) -> None:
    trial = TrialRecord("trial-0", CELL.id, 0, SETTINGS, "failed", 0.0, [None, None], "oom")
    put(study, CELL, trial)
    tracking.sync(study, [])
    assert runs_in(study)[named("trial", CELL, 0)].data.metrics == {}


def test_a_cell_without_any_run_has_failed(study: Study) -> None:
    for seed in range(2):
        failed(study, seed)
    tracking.sync(study, [])
    cell = runs_in(study)[f"cell:{CELL.id}"]
    assert (cell.info.status, cell.data.tags["reason"]) == ("FAILED", "oom")


def test_another_choice_replaces_the_cell_and_leaves_no_orphans(study: Study) -> None:
    tracking.sync(study, [])
    choice = ChoiceRecord("choice-z", CELL.id, "best", 0, {**SETTINGS, "alpha": 9.0}, 0.25)
    put(study, CELL, choice)
    tracking.sync(study, [])
    assert len(content(study)) == 10
    assert runs_in(study)[f"cell:{CELL.id}"].data.params["alpha"] == "9.0"


def test_a_deleted_experiment_comes_back(study: Study) -> None:
    tracking.sync(study, [])
    before, client = content(study), connect(store.uri_of(study)).client
    client.delete_experiment(next(iter(runs_in(study).values())).info.experiment_id)
    tracking.sync(study, [])
    assert content(study) == before


def test_runs_of_other_people_in_the_experiment_are_left_alone(study: Study) -> None:
    tracking.sync(study, [])
    client = connect(store.uri_of(study)).client
    cell = runs_in(study)[f"cell:{CELL.id}"]
    mine = client.create_run(cell.info.experiment_id, run_name="mine").info.run_id
    assert tracking.sync(study, []).written == 0
    assert client.get_run(mine).info.lifecycle_stage == "active"


def test_what_was_replaced_does_not_come_back_with_its_experiment(study: Study) -> None:
    put(study, CELL, failed(study, 1))
    tracking.sync(study, [])
    run(study, CELL, 1)  # redone
    tracking.sync(study, [])
    before, client = content(study), connect(store.uri_of(study)).client
    client.delete_experiment(next(iter(runs_in(study).values())).info.experiment_id)
    tracking.sync(study, [])
    assert content(study) == before
    assert tracking.sync(study, []).written == 0


@pytest.mark.parametrize("gone", ["cell", "trial"])
def test_a_parent_deleted_by_hand_is_made_again_with_all_below_it(study: Study, gone: str) -> None:
    tracking.sync(study, [])
    before, client = content(study), connect(store.uri_of(study)).client
    key = f"cell:{CELL.id}" if gone == "cell" else named("trial", CELL, 0)
    client.delete_run(runs_in(study)[key].info.run_id)
    tracking.sync(study, [])
    assert content(study) == before
    assert tracking.sync(study, []).written == 0


def test_a_record_with_other_content_replaces_its_run(study: Study) -> None:
    tracking.sync(study, [])
    run(study, CELL, 1, score=0.75)
    assert tracking.sync(study, []).written == 1
    metrics = runs_in(study)[named("run", CELL, 1)].data.metrics
    assert metrics["test_concatenated_map_at_r"] == 0.75


@pytest.mark.parametrize("order", ["ab", "ba", "abab", "aabb", "abba"])
def test_equal_cells_of_two_folders_on_one_server_stay_apart(
    tmp_path: Path, empty_database: Path, order: str
) -> None:
    shared = tmp_path / "server" / "mlflow.db"
    shared.parent.mkdir()
    shutil.copy(empty_database, shared)
    uri = f"sqlite:///{shared}"
    studies = {n: make_study(tmp_path / n, empty_database, CELL) for n in "ab"}
    run(studies["b"], CELL, 1, score=0.75)  # the same id, another number
    for name in order:
        tracking.sync(studies[name], artifacts(studies[name]), uri)
    client = connect(uri).client
    (experiment,) = (e for e in client.search_experiments() if e.name.startswith("toy"))
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    one = 1 + 1 * (1 + 2) + 2 * (1 + 2) + 1  # cell, trial, runs, their folds, tables
    assert len(runs) == 2 * one
    scored = {
        r.data.tags["study_id"]: r.data.metrics["test_concatenated_map_at_r"]
        for r in runs
        if r.data.tags["record_id"] == named("run", CELL, 1)
    }
    ids = {n: (studies[n].out / "study.id").read_text().strip() for n in "ab"}
    assert scored == {ids["a"]: 0.25, ids["b"]: 0.75}
    tables = [r for r in runs if r.data.tags["kind"] == "tables"]
    assert {r.data.tags["study_id"] for r in tables} == set(ids.values())
    assert all(r.data.tags["host"] for r in runs)
    for name in "ab":
        assert tracking.sync(studies[name], [], uri).written == 0


def test_a_moved_folder_says_what_to_do(study: Study, tmp_path: Path) -> None:
    tracking.sync(study, [])
    moved = replace(study, out=tmp_path / "elsewhere")
    study.out.rename(moved.out)
    assert tracking.needs_sync(moved)
    with pytest.raises(StoreError, match=r"delete mlflow\.db"):
        tracking.sync(moved, [])


def test_the_server_named_in_the_environment_is_used(
    study: Study, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking.sync(study, [])
    other = shutil.copy(empty_database, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    assert tracking.needs_sync(study)
    report = tracking.sync(study, artifacts(study))
    assert (report.written, report.uri) == (4, f"sqlite:///{other}")
    assert not tracking.needs_sync(study)
    assert len(content(study)) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my runs", "other.db"]


@pytest.mark.parametrize("answer", [401, 403])
def test_a_server_that_refuses_the_user_names_the_credentials(study: Study, answer: int) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer)
            self.end_headers()
            self.wfile.write(b"You are not authenticated. Please see the documentation.")

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with pytest.raises(StoreError, match=rf"HTTP {answer}\); set MLFLOW_TRACKING_USER"):
                tracking.sync(study, [], f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()


def test_an_unreachable_server_costs_one_warning(study: Study) -> None:
    uri = f"http://me:secret@127.0.0.1:{free_port()}"
    said: list[str] = []
    started = time.perf_counter()
    tracker = tracking.Mirror(study, said.append, uri)
    for cell, record in logged(study):
        tracker.log(cell, record)
    assert time.perf_counter() - started < 1.0
    tracker.finish(artifacts(study), 30.0)
    assert time.perf_counter() - started < 30.0
    assert len(said) == 1
    assert "\n" not in said[0]
    assert "secret" not in said[0]
    assert f"python -m benchmark sync --out {shlex.quote(str(study.out))}" in said[0]
    assert tracking.needs_sync(study, uri)
    with pytest.raises(StoreError, match=r"MLflow at http://…@127\.0\.0\.1") as raised:
        tracking.sync(study, [], uri)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_damaged_database_costs_one_warning(study: Study) -> None:
    (study.out / "mlflow.db").write_bytes(b"not a database" * 100)
    said = mirror(study, timeout_s=0.5)
    assert len(said) == 1


def test_a_server_that_never_answers_does_not_keep_the_process(study: Study) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = in_new_process(
            study,
            f"tracker = tracking.Mirror(found, print, 'http://127.0.0.1:{port_of(server)}')",
            "tracker.log(found.cells[0], found.trials(found.cells[0])[0])",
            "tracker.finish([], 5.0)",
        )
    assert re.fullmatch(r"MLflow at .* is behind \(not finished after 5 s\).*\n", said)


def test_a_finished_folder_is_checked_without_mlflow(study: Study) -> None:
    tracking.sync(study, [])
    in_new_process(
        study,
        "assert not tracking.needs_sync(found)",
        "assert not {'mlflow', 'torch', 'pandas', 'optuna'} & set(sys.modules)",
    )


def test_no_tracker_takes_the_same_calls(study: Study) -> None:
    tracker: tracking.Tracker = tracking.NoTracker()
    tracker.log(CELL, study.trials(CELL)[0])
    tracker.finish([], 0.0)


@pytest.mark.slow
def test_a_server_that_dies_midway_is_completed_later(
    study: Study, tmp_path: Path, empty_database: Path
) -> None:
    port, said = free_port(), list[str]()
    uri = f"http://127.0.0.1:{port}"
    shutil.copy(empty_database, tmp_path / "server.db")
    entries = logged(study)
    first = next(i for i, (_, record) in enumerate(entries) if isinstance(record, TrialRecord))
    for path in (study.out / "records").glob("*/*/*/*/seed-*.json"):
        path.rename(path.with_suffix(".later"))
    with server(tmp_path, port):
        tracker = tracking.Mirror(study, said.append, uri)
        for cell, record in entries[: first + 1]:
            tracker.log(cell, record)
        while named("trial", CELL, 0) not in shown_so_far(study, uri):
            assert not said
    for path in (study.out / "records").glob("*/*/*/*/seed-*.later"):
        path.rename(path.with_suffix(".json"))
    started = time.perf_counter()
    for cell, record in entries[first + 1 :]:
        tracker.log(cell, record)
    tracker.finish(artifacts(study), 20.0)
    assert time.perf_counter() - started < 20.0
    assert len(said) == 1
    assert tracking.needs_sync(study, uri)
    with server(tmp_path, port):
        assert tracking.sync(study, artifacts(study), uri).written >= 2
        over_http = content(study, uri)
        assert len(client_artifacts(study, uri)) == 1
    assert not tracking.needs_sync(study, uri)
    tracking.sync(study, artifacts(study))
    assert over_http == content(study)


def shown_so_far(study: Study, uri: str) -> dict[str, Any]:
    client = connect(uri).client
    if client.get_experiment_by_name(f"toy v{PROTOCOL.version} {PROTOCOL.rules_hash()}") is None:
        return {}
    return runs_in(study, uri)


def client_artifacts(study: Study, uri: str) -> list[Any]:
    client = connect(uri).client
    found: list[Any] = client.list_artifacts(runs_in(study, uri)["tables"].info.run_id, "tables")
    return found


def in_new_process(study: Study, *lines: str) -> str:
    """Run lines of Python on the study ``found``; return what they print. None may grumble."""
    head = "import sys, pathlib\nfrom benchmark.mirror import tracking\n"
    head += "from benchmark.study.folder import load_study\n"
    head += "found = load_study(pathlib.Path(sys.argv[1]))\n"
    command = [sys.executable, "-c", head + "\n".join(lines), str(study.out)]
    root = Path(tracking.__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def renamed(study: Study) -> str:
    """The study's own database by another name, to which there is no connection yet."""
    return f"sqlite:///{study.out / '..' / study.out.name / 'mlflow.db'}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return port_of(listening)


def port_of(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """An MLflow server on loopback, killed at the end with all its processes; it leads them."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "server-artifacts")]
    command += ["--uvicorn-opts", "--no-access-log"]  # nobody empties the pipe
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **quiet},
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        assert any("running on" in line for line in process.stderr)
        yield process
    finally:
        with suppress(ProcessLookupError):  # a test may have killed it
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_folder_in_the_databases_place_is_one_line_and_no_wait(study: Study) -> None:
    (study.out / "mlflow.db").unlink()
    (study.out / "mlflow.db").mkdir()
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"mlflow\.db.*[Dd]irectory"):
        tracking.sync(study, [])
    assert time.monotonic() - started < 20
    assert "\n" not in mirror(study)[0]


def refusal(study: Study, uri: str | None = None) -> str:
    """Return the one line in which page, sync and mirror agree that a store cannot be used."""
    with pytest.raises(StoreError) as by_sync:
        tracking.sync(study, [], uri)
    with pytest.raises(StoreError) as by_page:
        tracking.check_store(study, store.uri_of(study, uri))
    line, (said,) = str(by_sync.value), mirror(study, uri)
    assert str(by_page.value).startswith(line)
    assert line.partition(": ")[2] in said
    assert "\n" not in str(by_page.value)
    return line


def of_another_version(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")


def test_a_database_of_a_newer_mlflow_is_one_line_and_rebuilt_when_deleted(study: Study) -> None:
    of_another_version(study.out / "mlflow.db")
    line = refusal(study)
    assert line.endswith("which is installed; delete mlflow.db, it is rebuilt")
    (study.out / "mlflow.db").unlink()
    assert tracking.needs_sync(study)


def test_a_shared_database_of_a_newer_mlflow_is_not_to_be_deleted(
    study: Study, tmp_path: Path
) -> None:
    of_another_version(Path(shutil.copy(study.out / "mlflow.db", tmp_path / "shared.db")))
    line = refusal(study, f"sqlite:///{tmp_path / 'shared.db'}")
    assert "delete" not in line
    assert "mlflow db upgrade" in line


@pytest.mark.parametrize("scheme", ["file://", "file:", ""])
def test_a_folder_as_a_store_is_one_line_that_names_a_database(
    study: Study, tmp_path: Path, empty_database: Path, scheme: str
) -> None:
    line = refusal(study, f"{scheme}{tmp_path}/mlruns")
    (named_uri,) = re.findall(r"like (sqlite:///\S+)", line)
    assert named_uri == f"sqlite:///{tmp_path}/mlruns.db"
    shutil.copy(empty_database, tmp_path / "mlruns.db")
    assert tracking.sync(study, [], named_uri).written == 4


def test_there_is_no_page_without_a_mirror(study: Study) -> None:
    (study.out / "mlflow.db").unlink()
    with pytest.raises(StoreError, match="benchmark sync --out"):
        tracking.check_store(study, store.uri_of(study))
    assert not (study.out / "mlflow.db").exists()


def test_a_database_that_others_begin_or_made_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, database = tmp_path / ".mlflow.db.other.7.part", tmp_path / "mlflow.db"
    begun.write_bytes(b"another study makes it now")
    make = client.connect

    def beside(uri: str) -> client.Connection:
        database.write_bytes(b"made meanwhile")
        return make(uri)

    monkeypatch.setattr(client, "connect", beside)
    client.create_database(database)
    assert database.read_bytes() == b"made meanwhile"
    assert sorted(tmp_path.iterdir()) == [begun, database]


@pytest.mark.parametrize("before", ["nothing", "deleted"])
def test_an_experiment_that_another_study_opens_at_the_same_time_is_shared(
    study: Study, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Between this study's look and its answer, another one makes or restores the experiment."""
    if before == "deleted":
        tracking.sync(study, [])
        ours = connect(store.uri_of(study)).client
        ours.delete_experiment(next(iter(runs_in(study).values())).info.experiment_id)
    other = connect(store.uri_of(study)).client
    look = type(other).get_experiment_by_name

    def looked(asked: Any, name: str) -> Any:
        found = look(asked, name)
        monkeypatch.setattr(type(other), "get_experiment_by_name", look)
        if found is None:
            other.create_experiment(name)
        else:
            other.restore_experiment(found.experiment_id)
        return found

    monkeypatch.setattr(type(other), "get_experiment_by_name", looked)
    shared = f"sqlite:///{study.out / '..' / study.out.name / 'mlflow.db'}"  # as a server's is
    tracking.sync(study, [], shared)
    assert len(content(study)) == 10


def test_data_that_another_study_adds_at_the_same_time_are_shared(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call is refused at first, as one of two that add the same row is."""
    connected = connect(store.uri_of(study))
    kind, asked = type(connected.client), set[str]()
    put_inputs = kind.log_inputs

    def refused_once(client: Any, run_id: str, inputs: list[Any]) -> None:
        if run_id not in asked:
            asked.add(run_id)
            error = connected.refused("UNIQUE constraint failed")
            error.error_code = "BAD_REQUEST"  # type: ignore[attr-defined]
            raise error
        put_inputs(client, run_id, inputs)

    monkeypatch.setattr(kind, "log_inputs", refused_once)
    tracking.sync(study, [])
    shown = content(study)
    assert len(shown[named("job", CELL, "final", 0, 0)][5]) == 3
    assert len(asked) == len(shown)
