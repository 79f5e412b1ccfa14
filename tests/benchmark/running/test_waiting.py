"""Code that never comes back is waited for so long and no longer, in real processes."""

import os
import time

import pytest

from benchmark.engines.local import LocalEngine
from benchmark.running import preflight, waiting
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan


def answer(seconds):
    time.sleep(seconds)
    return os.getpid()


@pytest.fixture
def engine(tmp_path):
    engine = LocalEngine(2, 1, tmp_path / "workers.txt")
    yield engine
    engine.close()


def test_what_hangs_is_killed_and_its_place_is_free_again(engine, monkeypatch):
    assert waiting.errors_of([engine.submit(answer, 0.0) for _ in range(2)], engine) == [None] * 2
    monkeypatch.setattr(waiting, "MOST_S", 0.5)
    futures = [engine.submit(answer, seconds) for seconds in (3600.0, 0.0)]
    late, good = waiting.errors_of(futures, engine)
    assert str(late) == "it did not end in 0.5 s"
    assert good is None
    assert futures[0].done()
    monkeypatch.setattr(waiting, "MOST_S", 60.0)
    again = [engine.submit(answer, 0.0) for _ in range(2)]  # both places are free
    assert waiting.errors_of(again, engine) == [None, None]


def test_a_first_step_that_hangs_is_said_and_keeps_no_other_from_running(engine, monkeypatch):
    monkeypatch.setattr(preflight, "first_look", answer)
    monkeypatch.setattr(preflight, "check", lambda found: None)
    monkeypatch.setattr(waiting, "MOST_S", 0.5)
    key = CellKey("id", "toy", "tiny", "adam", "slow", "slow")
    plan = CellPlan(key, 2, 0, 2, 0, jobs_left=8, chosen=False)
    said = []
    (look,) = preflight.look_first([plan], lambda cell: 3600.0, engine, said.append)
    assert look.failed == "it did not end in 0.5 s"
    place = "slow on toy (tiny, adam)"
    assert said == [f"{place} fails in its first step: it did not end in 0.5 s"]
