"""Where jobs run: spawned processes on this machine, one job at a time in each.

The surface is that of :mod:`concurrent.futures`: ``submit`` gives a future. A process that dies
takes one job with it, and the next job gets a fresh one. Each worker leads a process group, so
that what a method starts dies with it, and a worker dies with its coordinator.

A process runs one method's code only. Jobs of methods that ship share processes; code that does
not ship, which an argument names as ``foreign``, gets a process that has run nothing else. After
every job a guard compares the process with what it was before; where they differ it is replaced.

Under NVIDIA's MPS an error that breaks one process on a card breaks all there, and no new one is
let in until they are gone: idle ones are replaced at once, and a card waits for its busy ones.
So it does where one died or was killed at work: NVIDIA's manual promises nothing for the others.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from benchmark.engines import worker
from benchmark.engines.isolation import Answer, Code, FailedError, foreign, run_alone
from benchmark.engines.mps import PIPES, check_there
from benchmark.engines.worker import JOBS_A_CARD

T = TypeVar("T")


class Engine(Protocol):
    """What the scheduler needs of what runs jobs.

    Attributes:
        lost: what a future raises when its worker died or was killed. What the function itself
            raises is a BenchmarkError, or a RuntimeError that says in text what it was.
    """

    lost: type[Exception]

    @property
    def capacity(self) -> int:
        """Return how many jobs run at once, now."""
        ...

    def start(self, *modules: str) -> None:
        """Get workers ready, and ``modules`` imported there, while other things are prepared."""
        ...

    def submit(self, function: Callable[[Any], T], argument: Any) -> Future[T]:
        """Start ``function(argument)`` on a free worker."""
        ...

    def cancel(self, future: Future[Any]) -> None:
        """Kill the worker of a future that takes too long; the future fails."""
        ...

    def close(self) -> None:
        """Stop all workers, busy ones included."""
        ...


@dataclass
class _Slot:
    """A place for one process; ``code`` is what it has run, None if nothing yet."""

    pool: ProcessPoolExecutor | None = None
    code: Code | None = None


class LocalEngine:
    """Processes on this machine.

    Args:
        capacity: how many jobs run at once.
        threads: CPU threads of each.
        log: file that takes what workers print.
        deterministic: whether an operation that may differ between two runs is an error.
        devices: the CUDA devices that workers share out, one each; empty on the CPU.
        environment: the workers' environment variables; None for those of this process, which a
            plugin that was imported here may have changed.
        mps: the folder by which workers reach NVIDIA's MPS; None where they go without.
    """

    lost: type[Exception] = BrokenProcessPool

    def __init__(
        self,
        capacity: int,
        threads: int,
        log: Path,
        *,
        deterministic: bool = False,
        devices: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        mps: Path | None = None,
    ) -> None:
        if mps is not None:
            known = os.environ if environment is None else environment
            environment = {**known, PIPES: str(mps), "DML_MPS": "1"}  # the last is for records
        self._devices, self._mps = devices, mps
        self._start = (environment, os.getpid(), threads, str(log), deterministic)
        self._slots = [_Slot() for _ in range(capacity)]
        self._closed: set[int] = set()  # slots of a device that proved too small for all its jobs
        self._running: dict[Future[Any], int] = {}
        self._doomed: set[int] = set()  # busy slots of a card that MPS may have broken for all
        self._lock = threading.RLock()  # answers come in threads of their own
        self._retired: list[ProcessPoolExecutor] = []  # killed, and perhaps not gone yet
        self._last_lost: int | None = None  # the slot whose process died last

    @property
    def capacity(self) -> int:
        """Return how many jobs run at once."""
        return len(self._slots) - len(self._closed | self._waiting())

    def limit(self, a_card: int) -> None:
        """Run so many jobs on each device from now on, and end the processes of all others.

        Called while no job runs.
        """
        for number in range(len(self._slots)):
            if self._devices and number // len(self._devices) >= a_card:
                self._retire(number)
                self._closed.add(number)

    def start(self, *modules: str) -> None:
        """Start all processes now, so that they load torch while other things are prepared.

        They import ``modules`` too.
        """
        for number in range(len(self._slots)):
            self._fresh(number, None).submit(worker.load, modules)

    def submit(self, function: Callable[[Any], T], argument: Any) -> Future[T]:
        """Start ``function(argument)`` in a free process that has run no other code.

        Raises:
            MachineError: it needs a new process, and the MPS daemon that serves it is gone.
        """
        code, future = foreign(argument), Future[T]()
        with self._lock:
            number = self._choose(code)
            slot = self._slots[number]
            pool = slot.pool if slot.code in (None, code) else None
            slot.code = code
            self._running[future] = number
            call = partial(_run, function, argument, self._sharing(number))
            try:
                answer = (pool or self._fresh(number, code)).submit(call)
            except BrokenProcessPool:  # died while idle
                answer = self._fresh(number, code).submit(call)
        answer.add_done_callback(lambda done: self._finished(future, done))
        return future

    def cancel(self, future: Future[Any]) -> None:
        """Kill the process of ``future``, which then fails with BrokenProcessPool."""
        number = self._running.get(future)
        pool = None if number is None else self._slots[number].pool
        if pool is not None:
            _kill(pool)

    def close(self) -> None:
        """Kill all processes and wait until they are gone, those that were replaced included."""
        self._forget_ended()
        pools = [*(slot.pool for slot in self._slots if slot.pool is not None), *self._retired]
        for pool in pools:
            _kill(pool)
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)
        self._slots, self._retired = [_Slot() for _ in self._slots], []

    def _choose(self, code: Code) -> int:
        """Return the free slot that costs least: the same code, nothing run yet, any other.

        Of those that have run nothing, the one whose process died last goes first: what asks
        whether a job could run there must run there.
        """
        taken, waiting = {*self._running.values(), *self._closed}, self._waiting()
        free = [n for n in range(len(self._slots)) if n not in taken]
        # One that waits, where a card broke after the job was promised a place.
        free = [n for n in free if n not in waiting] or free
        same = [n for n in free if self._slots[n].pool and self._slots[n].code == code]
        new = [n for n in free if self._slots[n].code is None]
        new.sort(key=lambda n: n != self._last_lost)
        return (same or new or free)[0]

    def _fresh(self, number: int, code: Code | None) -> ProcessPoolExecutor:
        # spawn: a fork is unsafe once CUDA has started. One executor a process, so that a
        # process that dies breaks no other's work.
        self._retire(number)
        self._forget_ended()
        if self._mps is not None:
            check_there(self._mps)
        context = multiprocessing.get_context("spawn")
        device = self._devices[number % len(self._devices)] if self._devices else None
        start = (*self._start, device, self._sharing(number))
        pool = ProcessPoolExecutor(1, context, initializer=worker.start, initargs=start)
        self._slots[number] = _Slot(pool, code)
        return pool

    def _finished(self, future: Future[Any], done: Future[Answer[Any]]) -> None:
        """Pass on what came back; nobody sees it before its slot is free and in order."""
        with self._lock:
            number = self._running.pop(future)
            doomed = number in self._doomed
            self._doomed.discard(number)
            if done.cancelled():
                return  # by close, after which nobody waits
            error = done.exception()
            spent = "" if error else done.result().spent
            died = isinstance(error, BrokenProcessPool)
            if died:
                self._last_lost = number
            if error is not None or spent or doomed:
                self._retire(number, crowded=spent == "crowded")
            said = error.spent if isinstance(error, FailedError) else spent
            if self._mps and (died or said in ("broken", "recording")):
                self._give_up_card(number)
        if error is None:
            future.set_result(done.result().result)
        else:
            future.set_exception(error)

    def _give_up_card(self, number: int) -> None:
        """Replace the idle processes beside ``number``; its card waits for the busy ones."""
        beside = self._beside(number) - {number}
        busy = beside & set(self._running.values())
        self._doomed |= busy
        for other in beside - busy:
            self._retire(other)

    def _waiting(self) -> set[int]:
        """Return the free slots of cards that wait for processes of theirs to end."""
        beside = {number for doomed in list(self._doomed) for number in self._beside(doomed)}
        return beside - set(self._running.values())

    def _beside(self, number: int) -> set[int]:
        """Return the slots of one card, ``number`` among them; none on the CPU."""
        count = len(self._devices)
        return {n for n in range(len(self._slots)) if count and n % count == number % count}

    def _sharing(self, number: int) -> int:
        """Return how many jobs share the device of a slot by now, 0 on the CPU."""
        return len(self._beside(number) - self._closed)

    def _forget_ended(self) -> None:
        """Forget the replaced processes that are gone: their numbers may be others' by now."""
        for pool in list(self._retired):
            thread: Any = pool._executor_manager_thread  # it ends once the process is gone
            if thread is None or not thread.is_alive():
                self._retired.remove(pool)

    def _retire(self, number: int, *, crowded: bool = False) -> None:
        """End a process that must not be used again; its device may have one job fewer now."""
        if (pool := self._slots[number].pool) is not None:
            self._retired.append(pool)  # first of all: close must find it in one place or the other
            _kill(pool)
        self._slots[number] = _Slot()
        if crowded and len(self._beside(number) - self._closed) > 1:
            self._closed.add(number)


def _run(function: Callable[[Any], T], argument: Any, sharing: int) -> Answer[T]:
    """Run a call in a worker, whose device so many jobs share by now."""
    if sharing:
        # Known since the worker began, so its place in the environment stays: another thread may
        # be reading that.
        os.environ[JOBS_A_CARD] = str(sharing)
    return run_alone(function, argument)


def _kill(pool: ProcessPoolExecutor) -> None:
    """Kill a pool's process, started or starting, and what it has started."""
    # Before Python 3.14 there is no public way to a pool's processes.
    for process in list((pool._processes or {}).values()):
        if process.pid is not None:
            # Its process group may not be there yet, or be gone already.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
