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
    before = timing.job_seconds(job)[1]
    monkeypatch.setattr(timing, "stepper", slow(5.0, timing.stepper))
    monkeypatch.setattr(timing.evaluate, "rank", slow(1.0, timing.evaluate.rank))
    monkeypatch.setattr(timing.evaluate, "verify_pairs", slow(2.0, timing.evaluate.verify_pairs))
    slower = timing.job_seconds(job)[1] - before
    expected = 5.0 + VALIDATIONS * 1.0 + times * 3.0
    assert slower == pytest.approx(expected, rel=0.3)


def test_at_least_is_what_patience_leaves(job, monkeypatch):
    # Patience of one validation without a gain after the first ends at step 12 of 60.
    pace = Pace(max_steps=60, steps_per_epoch=4, validate_every=6, patience=1)
    patient = replace(job, protocol=replace(PROTOCOL, pace=pace))
    monkeypatch.setattr(timing, "_step_seconds", lambda *asked: 10.0)
    monkeypatch.setattr(timing, "_ranking_seconds", lambda *asked: (100.0, 1000.0))
    least, usual, most = timing.job_seconds(patient)
    assert least == pytest.approx(1000 + 12 * 10 + 3 * 100, abs=30)
    assert usual == most == pytest.approx(1000 + 60 * 10 + 11 * 100, abs=30)


def test_a_budget_in_seconds_may_end_a_job_before_patience_does(job, monkeypatch):
    monkeypatch.setattr(timing, "_step_seconds", lambda *asked: 10.0)
    monkeypatch.setattr(timing, "_ranking_seconds", lambda *asked: (100.0, 1000.0))
    short = replace(job, protocol=replace(PROTOCOL, budget_s=40.0))
    long = replace(job, protocol=replace(PROTOCOL, budget_s=4000.0))
    assert timing.job_seconds(short)[0] == pytest.approx(1000 + 100 + 40, abs=30)
    assert timing.job_seconds(long)[0] == pytest.approx(1000 + 12 * 10 + 3 * 100, abs=30)
    assert timing.job_seconds(short)[1] == pytest.approx(1000 + 12 * 10 + 3 * 100, abs=30)


def test_of_a_row_that_does_not_train_all_are_the_same(job):
    cell = replace(job.cell, method="untrained", trains=False)
    assert len(set(timing.job_seconds(replace(job, cell=cell), {"ancestors": 9}))) == 1


def test_the_largest_settings_are_measured_too(job, monkeypatch):
    """Each step waits a hundredth of a second for each of the proxies that a class has."""

    def stepper(job, *rest):
        return lambda step: time.sleep(0.01 * job.settings["proxies"])

    monkeypatch.setattr(timing, "stepper", stepper)
    job = replace(job, cell=replace(job.cell, method="pfml"), settings={"proxies": 2})
    least, usual, most = timing.job_seconds(job, {"proxies": 15})
    assert least <= usual
    assert most - usual == pytest.approx(12 * 0.13, rel=0.5)
    assert timing.job_seconds(job, {"proxies": 1})[1:] == pytest.approx((usual, usual), rel=0.5)


def test_hyperparameters_of_the_recipe_are_set_to_the_largest_too(job, monkeypatch):
    seen = []
    found = timing._job_seconds
    monkeypatch.setattr(timing, "_job_seconds", lambda job: (seen.append(job), found(job))[1])
    timing.job_seconds(job, {"alpha": 3.0, "recipe-lr": 0.25})
    assert [each.recipe.lr for each in seen] == [job.recipe.lr, 0.25]
    assert seen[1].settings == {"alpha": 3.0, "recipe-lr": 0.25}
