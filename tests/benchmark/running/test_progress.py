"""The time left, against simulated studies."""

import pytest

from benchmark.running.progress import _Work, time_left


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
