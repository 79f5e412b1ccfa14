"""Flows of work over an engine: each flow waits for its own jobs, all flows share the workers.

A flow is a generator. It yields a list of tasks that may run side by side, is sent their
results in the same order, and returns flows that can start once it has ended. What a flow
computes depends on its own results only, so the number of workers changes nothing but time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from benchmark.engines.local import Engine
from benchmark.running.limits import raise_if_stopped
from benchmark.study.records import Reason
from protocols.errors import BenchmarkError, MachineError

POLL_S = 1.0


class Retry(Enum):
    """What ``Task.accept`` and ``Task.lost`` say in place of a result."""

    AGAIN = "again"
    ALONE = "again, with nothing beside it"


Flow: TypeAlias = "Generator[list[Task], list[Any], Sequence[Flow]]"


@dataclass(frozen=True)
class Task:
    """A call on a worker.

    Attributes:
        function, argument: what runs; both must be picklable.
        timeout_s: seconds after which its worker is killed.
        accept: called with the result as soon as there is one; what it returns goes to the
                flow, unless it is a ``Retry``: then the task runs once more, now or after all
            others and alone; or a ``Task``: then that runs in its place. What has run alone
            does so in all further attempts.
        lost: called with a reason when a worker died, was killed, or could not do the call;
            like ``accept``.
    """

    function: Callable[[Any], Any]
    argument: Any
    timeout_s: float
    accept: Callable[[Any], Any]
    lost: Callable[[Reason], Any]


@dataclass(eq=False)
class _Waiting:
    """A flow, the tasks it waits for, and what came back so far."""

    flow: Flow
    tasks: list[Task]
    results: dict[int, Any] = field(default_factory=dict)
    unstarted: list[int] = field(default_factory=list)
    alone: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Started:
    owner: _Waiting
    number: int
    deadline: float
    alone: bool


def run(flows: Sequence[Flow], engine: Engine) -> None:
    """Run all flows, and those they return, to their ends. Earlier flows go first."""
    waiting: list[_Waiting] = []
    for flow in flows:
        waiting += _advance(flow, None)
    running: dict[Future[Any], _Started] = {}
    while waiting:
        raise_if_stopped()
        for owner, number in _startable(waiting, list(running.values()), engine.capacity):
            alone = number in owner.alone
            (owner.alone if alone else owner.unstarted).remove(number)
            task = owner.tasks[number]
            deadline = time.monotonic() + task.timeout_s
            future = _submitted(engine, task)
            running[future] = _Started(owner, number, deadline, alone)
        done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future in [f for f in running if f in done]:
            owner = running[future].owner
            _settle(owner, running.pop(future), future, engine)
            if len(owner.results) == len(owner.tasks):
                at = waiting.index(owner)
                results = [owner.results[n] for n in range(len(owner.tasks))]
                waiting[at : at + 1] = _advance(owner.flow, results)
        for future, started in running.items():
            if time.monotonic() > started.deadline:
                engine.cancel(future)


def _submitted(engine: Engine, task: Task) -> Future[Any]:
    """Start a task; a system that starts no process for it is no fault of the task's."""
    try:
        return engine.submit(task.function, task.argument)
    except OSError as error:
        raise MachineError(
            f"no worker can be started here: {error.strerror or error}. What is recorded is safe: "
            "fix that and run the same command again"
        ) from error


def _advance(flow: Flow, results: list[Any] | None) -> list[_Waiting]:
    """Go on with ``flow`` until it waits for tasks; return it, or the flows it ends in."""
    try:
        tasks = flow.send(results) if results is not None else next(flow)
        while not tasks:
            tasks = flow.send([])
    except StopIteration as end:
        return [state for after in end.value or () for state in _advance(after, None)]
    return [_Waiting(flow, tasks, unstarted=list(range(len(tasks))))]


def _startable(
    waiting: list[_Waiting], running: list[_Started], capacity: int
) -> Iterator[tuple[_Waiting, int]]:
    """Yield tasks that can start, in the order of the flows.

    A task that must run alone starts when nothing else runs and nothing else can start.
    """
    if any(started.alone for started in running):
        return
    ready = [(owner, number) for owner in waiting for number in owner.unstarted]
    yield from ready[: max(0, capacity - len(running))]
    if not ready and not running:
        yield from [(owner, number) for owner in waiting for number in owner.alone][:1]


def _settle(owner: _Waiting, started: _Started, future: Future[Any], engine: Engine) -> None:
    """Take a finished task's result, or put the task back for another attempt."""
    task, number = owner.tasks[started.number], started.number
    error = future.exception()
    if error is None:
        result = task.accept(future.result())
    elif isinstance(error, BenchmarkError):  # for the user: what is wrong is not the job's
        raise error
    else:
        late = isinstance(error, engine.lost) and time.monotonic() > started.deadline
        result = task.lost("timeout" if late else "crash")
    if isinstance(result, Task):
        owner.tasks[number] = result
    if not isinstance(result, (Task, Retry)):
        owner.results[number] = result
    elif started.alone or result is Retry.ALONE:  # once alone, in all further attempts
        owner.alone.append(number)
    else:
        owner.unstarted.insert(0, number)
