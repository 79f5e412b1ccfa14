"""Flows, engine and failure: real processes, no stand-ins."""

import os
import signal
import time
from pathlib import Path

import pytest

from benchmark.engines.local import LocalEngine
from benchmark.running import flows as schedule
from benchmark.running.flows import Retry, Task


def square(number):
    return number * number


def die(path):
    """Die at the first call, answer at the second."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def sleep_for_ever(_):
    time.sleep(3600)


def pid_of(_):
    return os.getpid()


def span(number):
    """Return the number and when work on it began and ended."""
    began = time.monotonic()
    time.sleep(0.05)
    return number, began, time.monotonic()


def loud(_):
    print("x" * 1_000_000)
    return "quiet"


@pytest.fixture
def engine(tmp_path):
    engine = LocalEngine(2, 1, tmp_path / "workers.txt")
    yield engine
    engine.close()


def task(function, argument, *, lost=lambda reason: reason, timeout_s=60.0):
    return Task(function, argument, timeout_s, accept=lambda result: result, lost=lost)


def test_flows_get_their_results_in_order_and_start_successors(engine):
    seen = []

    def child(name):
        (value,) = yield [task(square, name)]
        seen.append(("child", value))
        return []

    def parent():
        results = yield [task(square, n) for n in (3, 1, 2)]
        seen.append(("parent", results))
        nothing = yield []
        seen.append(("empty", nothing))
        return [child(4), child(5)]

    schedule.run([parent()], engine)
    assert seen[:2] == [("parent", [9, 1, 4]), ("empty", [])]
    assert sorted(seen[2:]) == [("child", 16), ("child", 25)]


def test_a_dead_worker_costs_one_job_and_no_other(engine, tmp_path):
    retried, results = [], {}

    def flow(name, work):
        (results[name],) = yield [work]
        return []

    def lost(reason):
        retried.append(reason)
        return schedule.Retry.AGAIN

    flows = [flow("dead", task(die, tmp_path / "mark", lost=lost))]
    flows += [flow(n, task(square, n)) for n in range(6)]
    schedule.run(flows, engine)
    assert results == {"dead": "survived", **{n: n * n for n in range(6)}}
    assert retried == ["crash"]


def test_a_hanging_job_is_killed_and_named(engine):
    got = []

    def flow():
        got.extend((yield [task(sleep_for_ever, None, timeout_s=6.0)]))
        return []

    started = time.monotonic()
    schedule.run([flow()], engine)
    assert got == ["timeout"]
    assert time.monotonic() - started < 30


def test_close_leaves_no_process_behind(tmp_path):
    engine = LocalEngine(2, 1, tmp_path / "workers.txt")
    futures = [engine.submit(pid_of, None), engine.submit(sleep_for_ever, None)]
    pid = futures[0].result(timeout=60)
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_workers_print_goes_to_their_log(engine, tmp_path, capfd):
    assert engine.submit(loud, None).result(timeout=60) == "quiet"
    engine.close()
    assert "xxx" not in capfd.readouterr().out
    assert "xxx" in (tmp_path / "workers.txt").read_text()


def test_a_task_may_answer_with_another_one_to_run_in_its_place(engine):
    got = []

    def flow():
        other = task(square, 5)
        first = Task(square, 4, 60.0, accept=lambda result: other, lost=lambda reason: reason)
        got.extend((yield [first, task(square, 3)]))
        return []

    schedule.run([flow()], engine)
    assert got == [25, 9]


def test_a_task_that_did_not_fit_runs_last_and_alone(tmp_path):
    """As after a job that ran out of memory beside its neighbours."""
    engine, seen = LocalEngine(3, 1, tmp_path / "workers.txt"), []

    def accept(result):
        seen.append(result)
        number, tries = result[0], [number for number, _, _ in seen].count(result[0])
        if number in (1, 4) and tries == 1:
            return Retry.ALONE
        return made(1) if number == 1 and tries == 2 else result  # that one is alone as well

    def made(number):
        return Task(span, number, 60.0, accept=accept, lost=lambda reason: reason)

    def flow(numbers):
        found = yield [made(number) for number in numbers]
        assert [number for number, _, _ in found] == numbers
        return []

    try:
        schedule.run([flow([1, 2, 3]), flow([4, 5, 6])], engine)
    finally:
        engine.close()
    assert [number for number, _, _ in seen[6:]] == [1, 1, 4]
    for at in (6, 7, 8):
        began = seen[at][1]
        assert all(end <= began for _, _, end in seen[:at]), "something ran beside it"
