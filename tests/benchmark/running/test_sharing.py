"""As many jobs a card as pay: the smallest number near the best joint rate."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from benchmark.running import sharing
from benchmark.running.sharing import choose, fit_together, pays_here, share
from benchmark.training import timing
from benchmark.training.first_look import FirstLook
from benchmark.training.timing import Load, joint_rate
from protocols.errors import InvalidInputError

CARD = 80 << 30


def load(rate, memory=1 << 30, begun=10.0, seconds=2.0):
    """Return what a job did that took ``rate`` steps a second all the time."""
    return Load(((begun, 0), (begun + seconds, rate * seconds)), memory, CARD)


def card(rates, memory=1 << 30, fits=64):
    """Return a card on which n jobs together take ``rates[n]`` steps a second."""
    asked = []

    def measure(count):
        asked.append(count)
        return [load(rates[count] / count, memory)] * count if count <= fits else []

    return measure, asked


@pytest.mark.parametrize(
    ("rates", "wanted", "asked"),
    [
        ({1: 100, 2: 190, 4: 350, 8: 600}, 8, [1, 8, 8, 4]),
        ({1: 100, 2: 190, 4: 300, 8: 305}, 4, [1, 8, 8, 4, 2]),
        ({1: 100, 2: 101, 4: 102, 8: 102}, 1, [1, 8, 8, 4, 2]),
        ({1: 100, 2: 160, 4: 140, 8: 90}, 2, [1, 8, 8, 4, 2]),
    ],
)
def test_the_smallest_number_near_the_best_is_chosen(rates, wanted, asked):
    measure, seen = card(rates)
    assert (choose(measure, 8), seen) == (wanted, asked)


def test_no_more_than_fit_into_memory_are_tried():
    measure, seen = card({1: 100, 2: 190, 3: 280}, memory=20 << 30)
    assert choose(measure, 8) == 3
    assert max(seen) == 3


def test_where_some_fail_fewer_are_taken():
    measure, seen = card({1: 100, 2: 190, 4: 300, 8: 500}, fits=4)
    assert choose(measure, 8) == 4
    assert seen == [1, 8, 4, 4, 2], "what fails is not tried again"


def test_a_job_that_cannot_be_measured_gives_no_number():
    assert choose(lambda count: [], 8) == 0


def test_what_another_cell_took_of_the_card_bounds_the_number():
    measure, seen = card({1: 100, 2: 190, 3: 280, 8: 700})
    assert choose(measure, 8, memory=20 << 30) == 3
    assert max(seen) == 3


def test_only_the_time_in_which_all_jobs_run_counts():
    slow_then_fast = Load(((0.0, 0), (1.0, 10), (2.0, 110)), 1 << 30, CARD)
    late = Load(((1.0, 0), (3.0, 200)), 1 << 30, CARD)
    assert joint_rate([slow_then_fast]) == pytest.approx(55.0)
    assert joint_rate([slow_then_fast, late]) == pytest.approx(100.0 + 100.0)
    assert joint_rate([load(5, begun=0.0), load(5, begun=2.0)]) == 0.0, "they never met"
    assert joint_rate([]) == 0.0


class Device:
    """A device that takes steps one after the other, and the clock of its machine."""

    def __init__(self, step_s):
        self.now, self.free, self.step_s, self.waits = 100.0, 0.0, step_s, 0

    def take(self, step):
        """Let the host start a step, in no time to speak of."""
        self.free = max(self.free, self.now) + self.step_s
        self.now += 1e-6

    def wait(self):
        self.now, self.waits = max(self.now, self.free), self.waits + 1


@pytest.mark.parametrize("step_s", [0.0005, 0.02, 0.7])
def test_a_window_is_as_long_as_it_is_said_however_far_a_host_may_run_ahead(monkeypatch, step_s):
    place = Device(step_s)
    monkeypatch.setattr(timing.time, "monotonic", lambda: place.now)
    marks = timing.marks_of(place.take, place.wait)
    seconds = marks[-1][0] - marks[0][0]
    assert timing.WINDOW_S <= seconds < timing.WINDOW_S + 2 * max(timing.MARK_S, step_s)
    assert marks[-1][1] == pytest.approx(seconds / step_s, rel=0.01)
    assert place.waits <= 2 + seconds / min(timing.MARK_S / 2, seconds) + 10


@dataclass(frozen=True)
class MadeJob:
    """What a measurement needs of a job."""

    fold: int
    protocol: SimpleNamespace
    cell: SimpleNamespace | None = None


class Workers:
    """Four workers on a card; one that gets a job while all four are busy is an error."""

    def __init__(self):
        self.pool, self.asked, self.chosen = ThreadPoolExecutor(4), [], None

    capacity = 4

    def submit(self, function, argument):
        assert sum(not future.done() for future in self.asked) < self.capacity
        self.asked.append(self.pool.submit(function, argument))
        return self.asked[-1]

    def limit(self, a_card):
        self.chosen = a_card


def test_fewer_are_measured_once_all_have_ended_of_which_one_has_failed(monkeypatch):
    calls = count()

    def load_of(job, scored):
        number = next(calls)
        assert scored == (number == 0)
        if number == 1:  # of the four at once, after the one alone
            raise RuntimeError("no room")
        time.sleep(0.05)
        return load(100)

    workers = Workers()
    monkeypatch.setattr(sharing, "load_of", load_of)
    with workers.pool:
        assert share(workers, MadeJob(0, SimpleNamespace(folds=4)), 1) == 2
    assert (len(workers.asked), workers.chosen) == (1 + 4 + 2 + 2, 2)


def test_where_one_job_alone_fails_one_runs_on_a_card_and_it_is_told(monkeypatch):
    def load_of(job, scored):
        raise RuntimeError("no step works")

    workers = Workers()
    monkeypatch.setattr(sharing, "load_of", load_of)
    with workers.pool:
        assert share(workers, MadeJob(0, SimpleNamespace(folds=4)), 1) == 0
    assert workers.chosen == 1


def look(memory_mb, card_mb=80 << 10):
    return FirstLook(memory_mb=memory_mb, card_mb=card_mb)


@pytest.mark.parametrize(
    ("looks", "cells", "wanted"),
    [
        ([look(1000), look(7000)], 2, True),  # 8 x (7000 + 700) of 69,632
        ([look(1000), look(8100)], 2, False),
        ([look(1000), look(1000, card_mb=0)], 2, False),  # one has failed
        ([look(1000)], 2, False),  # one has begun before
        ([], 1, False),
    ],
)
def test_jobs_fit_together_by_what_first_steps_took(looks, cells, wanted):
    assert fit_together(looks, cells, 8) is wanted


@pytest.mark.parametrize("strict", [False, True])
def test_a_machine_of_a_cluster_measures_with_workers_of_its_own(monkeypatch, strict):
    lenient = lambda: not strict  # noqa: E731
    monkeypatch.setattr(torch, "is_deterministic_algorithms_warn_only_enabled", lenient)
    protocol = SimpleNamespace(folds=2, threads_per_job=1)
    made, job = [], MadeJob(0, protocol, SimpleNamespace(row="ms"))

    class Engine:
        def __init__(self, count, threads, log, deterministic, devices):
            made.append((count, threads, deterministic, devices))

        def start(self, module):
            made.append(module)

        def close(self):
            made.append("closed")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(sharing, "LocalEngine", Engine)
    monkeypatch.setattr(sharing, "default_workers", lambda devices, protocol: 6)

    def share(engine, asked, cards, memory_mb):
        return 2 if (asked, cards, memory_mb) == (job, 1, 700) else 0

    monkeypatch.setattr(sharing, "share", share)
    assert pays_here(4, job, 700) == 2
    with pytest.raises(InvalidInputError, match="ms fails while it is measured"):
        pays_here(4, job)
    del made[3:]
    assert made == [(4, 1, strict, ("3",)), "benchmark.training.job", "closed"]
