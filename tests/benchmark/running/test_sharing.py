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
from benchmark.training.first_look import FirstLook
from benchmark.training.timing import Load

CARD = 80 << 30


def card(rates, memory=1 << 30, fits=64):
    """Return a card on which n jobs together take ``rates[n]`` steps a second."""
    asked = []

    def measure(count):
        asked.append(count)
        return [Load(rates[count] / count, memory, CARD)] * count if count <= fits else []

    return measure, asked


@pytest.mark.parametrize(
    ("rates", "wanted", "asked"),
    [
        ({1: 100, 2: 190, 4: 350, 8: 600}, 8, [1, 8, 4]),
        ({1: 100, 2: 190, 4: 300, 8: 305}, 4, [1, 8, 4, 2]),
        ({1: 100, 2: 101, 4: 102, 8: 102}, 1, [1, 8, 4, 2]),
        ({1: 100, 2: 160, 4: 140, 8: 90}, 2, [1, 8, 4, 2]),
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
    measure, _ = card({1: 100, 2: 190, 4: 300, 8: 500}, fits=4)
    assert choose(measure, 8) == 4


def test_a_job_that_cannot_be_measured_runs_alone():
    assert choose(lambda count: [], 8) == 1


@dataclass(frozen=True)
class MadeJob:
    """What a measurement needs of a job."""

    fold: int
    protocol: SimpleNamespace


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

    def load_of(job):
        if next(calls) == 1:  # of the four at once, after the one alone
            raise RuntimeError("no room")
        time.sleep(0.05)
        return Load(100, 1 << 30, CARD)

    workers = Workers()
    monkeypatch.setattr(sharing, "load_of", load_of)
    with workers.pool:
        assert share(workers, MadeJob(0, SimpleNamespace(folds=4)), 1) == 2
    assert (len(workers.asked), workers.chosen) == (1 + 4 + 2, 2)


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
    made, job = [], MadeJob(0, SimpleNamespace(folds=2, threads_per_job=1))

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
    monkeypatch.setattr(sharing, "share", lambda engine, asked, cards: 2 if asked is job else 0)
    assert pays_here(4, job) == 2
    assert made == [(4, 1, strict, ("3",)), "benchmark.training.job", "closed"]
