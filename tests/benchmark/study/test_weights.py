"""Which weights stay, which go, and in which order."""

import hashlib
from dataclasses import replace

import pytest

from benchmark.study import weights
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import JobRecord, RunRecord
from protocols.discovery import load
from protocols.errors import StoreError
from tests.proven import put

PROTOCOL = replace(load("protocol", "toy"), folds=2, seeds=4)
CELL = CellKey("0123456789abcdef", "toy", "tiny", "adam", "ms", "ms")


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path / "out", PROTOCOL, (CELL,))


def train(study, seed, kept=True):
    """Leave what a finished training leaves: weights, then their records."""
    for fold in range(2):
        content = f"weights of {seed} {fold}".encode()
        if kept:
            path = weights.path_of(study, CELL, seed, fold)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        sha = hashlib.sha256(content).hexdigest()
        where = (CELL.id, "final", seed, fold, {})
        put(study, CELL, JobRecord("", *where, "done", weights_sha256=sha))


def finish(study, seed, validation, test=0.5, status="done"):
    metrics = {"map_at_r": validation} if status == "done" else None
    done = RunRecord("", CELL.id, seed, {}, status, [], validation=metrics)
    put(study, CELL, replace(done, concatenated={"map_at_r": test}))


def held(study):
    return sorted(p.name for p in (study.out / "weights").rglob("*.safetensors"))


def of(*seeds):
    return [f"seed-{s}.fold-{k}.safetensors" for s in seeds for k in (0, 1)]


def test_the_best_seed_is_the_one_that_validated_best_not_the_one_that_tests_best(study):
    for seed, validation, test in ((0, 0.5, 0.9), (1, 0.7, 0.1), (2, 0.7, 0.8)):
        train(study, seed)
        finish(study, seed, validation, test)
    assert weights.best_run(study, CELL).seed == 1, "the lower seed among equals"
    weights.prune(study, CELL, "best")
    assert held(study) == of(1)


def test_none_all_and_failed_runs(study):
    for seed in range(3):
        train(study, seed)
        finish(study, seed, 0.5 + seed / 10, status="failed" if seed == 2 else "done")
    weights.prune(study, CELL, "all")
    assert held(study) == of(0, 1)
    weights.prune(study, CELL, "none")
    assert held(study) == []
    assert weights.best_run(study, CELL).seed == 1


def test_a_run_that_is_not_recorded_keeps_its_weights(study):
    train(study, 0)
    finish(study, 0, 0.5)
    train(study, 1)
    for keep in weights.CHOICES[1:]:
        weights.prune(study, CELL, keep)
        assert held(study) == of(0, 1)
    finish(study, 1, 0.6)  # killed before it could prune: the next start does
    weights.prune(study, CELL, "best")
    assert held(study) == of(1)


def test_worse_weights_stay_as_long_as_the_best_ones_are_not_all_there(study):
    train(study, 0)
    finish(study, 0, 0.5)
    train(study, 1)
    finish(study, 1, 0.6)
    weights.path_of(study, CELL, 1, 1).unlink()
    weights.prune(study, CELL, "best")
    assert held(study) == sorted([*of(0), of(1)[0]])
    found = weights.lacking(study, [CELL], "best")
    assert [(item.run.seed, item.fold) for item in found] == [(1, 1)]
    assert weights.lacking(study, [CELL], "none") == []


def test_weights_that_are_not_those_of_their_record_go_aside(study):
    train(study, 0)
    finish(study, 0, 0.5)
    path = weights.path_of(study, CELL, 0, 1)
    assert weights.set_aside(study, CELL) == []
    path.write_bytes(b"something else")
    assert weights.set_aside(study, CELL) == [path.name]
    assert not path.exists()
    assert path.with_name(f"{path.name}.damaged").read_bytes() == b"something else"
    assert weights.missing_folds(study, CELL, 0) == [1]
    assert weights.set_aside(study, CELL) == []


def test_what_is_kept_is_said_once_for_a_folder(tmp_path):
    assert weights.kept_in(tmp_path) == "best"
    weights.remember(tmp_path, "best")
    assert not (tmp_path / "weights").exists(), "the default needs no file"
    weights.remember(tmp_path, "all")
    assert weights.kept_in(tmp_path) == "all"
    (tmp_path / "weights" / "keep").write_text("some\n")
    with pytest.raises(StoreError, match=r"says 'some', expected none, best, all"):
        weights.kept_in(tmp_path)
