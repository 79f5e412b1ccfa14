"""What ``plan`` says is left, where ``run`` would have something to do: the same, and no change."""

import shutil
from dataclasses import replace

import pytest

from benchmark.cli import main
from benchmark.study import records
from benchmark.study.folder import load_study

WORDS = ("--protocol", "toy", "--methods", "triplet,ms", "--device", "cpu")


@pytest.fixture
def out(toy_study, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(toy_study, folder)
    return folder


def contents(out):
    return {path: path.read_bytes() for path in (out / "records").rglob("*.json*")}


def planned(out, capsys, *words):
    """Return what a plan printed; it must leave every record as it is."""
    before = contents(out)
    assert main([*words, *WORDS, "--out", str(out)]) == 0
    assert contents(out) == before
    return capsys.readouterr().out


def lose_a_join(out):
    """Record a run of ms as one whose join ran out of memory; its folds are trained."""
    study = load_study(out)
    cell = next(cell for cell in study.cells if cell.row == "ms")
    run = replace(
        study.run(cell, 0), status="failed", reason="oom", separated=None, concatenated=None
    )
    records.write(study.record_path(cell, run), replace(run, queries=None))


def lose_weights(out):
    shutil.rmtree(out / "weights")


def lose_a_run(out):
    next((out / "records").rglob("ms-*/seed-0.json")).unlink()


def damage_a_trial(out):
    path = next((out / "records").rglob("ms-*/trial-001.json"))
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lose_a_join, ["run", "--dry-run", "--retry-failed"]),
        (lose_weights, ["plan", "--keep", "best"]),
        (lose_a_run, ["plan"]),
        (damage_a_trial, ["plan"]),
    ],
)
def test_what_run_would_do_is_not_said_to_be_nothing(out, capsys, harm, words):
    harm(out)
    said = planned(out, capsys, *words)
    assert "nothing left to do" not in said
    assert "left to do" in said  # all is trained: nothing has to be measured


def test_where_nothing_is_left_a_plan_says_so(out, capsys):
    assert "nothing left to do" in planned(out, capsys, "plan", "--keep", "best")
    lose_a_join(out)  # as it is, that run has ended
    assert "nothing left to do" in planned(out, capsys, "plan")
