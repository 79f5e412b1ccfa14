"""The time left, against simulated studies, and what the lines say."""

import io

import pytest
from rich.console import Console

from benchmark.running.progress import Progress, _Work, time_left
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan
from benchmark.study.records import JobRecord, RunRecord, TrialRecord


def test_nothing_known_is_said():
    assert time_left([_Work(4, None)], 2, 0.0) is None
    assert time_left([_Work(0, None)], 2, 0.0) == 0.0


def test_before_the_first_job_the_measured_seconds_count():
    assert time_left([_Work(4, 3.0), _Work(2, 1.0)], 2, 0.0) == pytest.approx((12 + 2) / 2)


def test_a_cell_lasts_as_its_own_jobs_have():
    fast, slow = _Work(10, 1.0), _Work(10, 1.0)
    for _ in range(5):
        fast.trained(1.0)
        slow.trained(9.0)
    assert time_left([fast, slow], 1, 50.0) == pytest.approx(5 * 1 + 5 * 9)


def test_an_expectation_that_was_off_is_corrected_for_cells_to_come():
    first, later, reference = _Work(10, 1.0), _Work(10, 1.0), _Work(4, 0.0)
    for _ in range(10):
        first.trained(3.0)
    assert time_left([first, later, reference], 2, 15.0) == pytest.approx(10 * 3.0 / 2)


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("between", [0.0, 0.3])
def test_after_a_tenth_the_rest_is_known_to_a_fifth(workers, between):
    """Cells one after the other, as the scheduler has them, with time lost between jobs."""
    seconds = [2.0, 2.4, 1.8, 2.2, 2.1]
    cells = [_Work(40, 1.0) for _ in seconds]
    queue = [(cell, s) for cell, s in zip(cells, seconds, strict=True) for _ in range(40)]
    clock, promised = 0.0, None
    for number, (cell, s) in enumerate(queue, 1):
        clock += (s + between) / workers
        cell.trained(s)
        if number == len(queue) // 10:
            promised = clock + time_left(cells, workers, clock)
    assert promised == pytest.approx(clock, rel=0.2)


def test_the_value_shown_is_the_one_that_decides(tmp_path):
    cell = CellKey("c", "toy", "tiny", "adam", "ms", "ms")
    plan = CellPlan(cell, 2, 0, 1, 0, 6, False)
    said = io.StringIO()
    console = Console(file=said, width=120, force_terminal=True)
    with Progress(console, [plan], tmp_path / "log", 1, {}, "precision_at_1") as progress:
        scores = {"map_at_r": 0.25, "precision_at_1": 0.75}
        job = JobRecord("j", "c", "search", 0, 0, {}, "done", best_step=20, validation=scores)
        progress.trained(cell, job)
        progress.tried(cell, TrialRecord("t", "c", 0, {}, "done", 0.75, [0.75]))
        progress.ran(cell, RunRecord("r", "c", 0, {}, "done", [], concatenated=scores))
    lines = (tmp_path / "log").read_text().splitlines()
    assert "val precision_at_1 0.7500 @ step 20" in lines[0]
    assert "best so far 0.7500" in lines[1]
    assert "test map_at_r 0.2500 concatenated" in lines[2]
    assert "Best val P@1" in said.getvalue()
    assert "Test MAP@R" in said.getvalue()


@pytest.mark.parametrize(("before", "words"), [(0, "none so far"), (1, "none since this start")])
def test_a_failed_trial_is_no_value_that_was_reached(tmp_path, before, words):
    cell = CellKey("c", "toy", "tiny", "adam", "ms", "ms")
    plan = CellPlan(cell, 4, before, 1, 0, 6, False)
    failed = TrialRecord("t", "c", before, {}, "failed", 0.0, [None], "error")
    done = TrialRecord("t", "c", before + 1, {}, "done", 0.0, [0.0])
    console = Console(file=io.StringIO())
    with Progress(console, [plan], tmp_path / "log", 1, {}, "map_at_r") as progress:
        for trial in (failed, done, failed):
            progress.tried(cell, trial)
    first, second, third = (tmp_path / "log").read_text().splitlines()
    assert f"failed: error  ({words})" in first
    assert "0.0000  (best so far 0.0000)" in second
    assert "failed: error  (best so far 0.0000)" in third
