"""What a job is expected to take: all that it does is in it."""

import time
from dataclasses import replace

import pytest

from benchmark.study.folder import CellKey
from benchmark.training import splits, timing
from benchmark.training.job import Job
from protocols.discovery import load
from protocols.protocol import Pace

PACE = Pace(max_steps=12, steps_per_epoch=4, validate_every=6, patience=99)
PROTOCOL = replace(load("protocol", "toy"), pace=PACE)
VALIDATIONS = 3  # before the first step, after the sixth and after the last


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    source = splits.DataSource(
        "toy", load("dataset", "toy").digest(), None, tmp_path_factory.mktemp("c")
    )
    cell = CellKey("id", "toy", "tiny", "adam", "ms", "ms")
    return Job(cell, PROTOCOL, load("recipe", "adam"), "search", 0, 0, {}, source, "cpu")


def slow(seconds, function):
    """Return ``function``, after so many seconds."""

    def call(*arguments, **options):
        time.sleep(seconds)
        return function(*arguments, **options)

    return call


def test_steps_that_settle_the_others_and_all_rankings_are_counted(job, monkeypatch):
    tests = splits.count_tests(job.source, job.protocol)
    validation = splits.open_fold(job.source, job.protocol, 0)[1]
    times = (tests / len(validation)) ** 2  # each test image is compared with every other one
    before = timing.job_seconds(job)
    monkeypatch.setattr(timing, "stepper", slow(5.0, timing.stepper))
    monkeypatch.setattr(timing.evaluate, "rank", slow(1.0, timing.evaluate.rank))
    monkeypatch.setattr(timing.evaluate, "verify_pairs", slow(2.0, timing.evaluate.verify_pairs))
    slower = timing.job_seconds(job) - before
    expected = 5.0 + VALIDATIONS * 1.0 + times * 3.0
    assert slower == pytest.approx(expected, rel=0.3)
