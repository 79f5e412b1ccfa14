"""Where jobs run: spawned processes on this machine, one job at a time in each.

The surface is that of :mod:`concurrent.futures`: ``submit`` gives a future. A process that dies
takes one job with it, and the next job gets a fresh one. Each worker leads a process group, so
that what a method starts dies with it, and a worker dies with its coordinator.

A process runs one method's code only. Jobs of methods that ship share processes; code that does
not ship, which an argument names as ``foreign``, gets a process that has run nothing else. After
every job a guard compares the process with what it was before; where they differ it is replaced.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

from benchmark.engines.isolation import Answer, Code, foreign, run_alone
from benchmark.streams import open_streams

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
    ) -> None:
        self._devices = devices
        self._start = (environment, os.getpid(), threads, str(log), deterministic)
        self._slots = [_Slot() for _ in range(capacity)]
        self._closed: set[int] = set()  # slots of a device that proved too small for all its jobs
        self._running: dict[Future[Any], int] = {}
        self._retired: list[ProcessPoolExecutor] = []  # killed, and perhaps not gone yet
        self._last_lost: int | None = None  # the slot whose process died last

    @property
    def capacity(self) -> int:
        """Return how many jobs run at once."""
        return len(self._slots) - len(self._closed)

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
            self._fresh(number, None).submit(_load, modules)

    def submit(self, function: Callable[[Any], T], argument: Any) -> Future[T]:
        """Start ``function(argument)`` in a free process that has run no other code."""
        code, future = foreign(argument), Future[T]()
        number = self._choose(code)
        slot = self._slots[number]
        pool = slot.pool if slot.code in (None, code) else None
        slot.code = code
        self._running[future] = number
        try:
            answer = (pool or self._fresh(number, code)).submit(run_alone, function, argument)
        except BrokenProcessPool:  # died while idle
            answer = self._fresh(number, code).submit(run_alone, function, argument)
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
        taken = {*self._running.values(), *self._closed}
        free = [n for n in range(len(self._slots)) if n not in taken]
        same = [n for n in free if self._slots[n].pool and self._slots[n].code == code]
        new = [n for n in free if self._slots[n].code is None]
        new.sort(key=lambda n: n != self._last_lost)
        return (same or new or free)[0]

    def _fresh(self, number: int, code: Code | None) -> ProcessPoolExecutor:
        # spawn: a fork is unsafe once CUDA has started. One executor a process, so that a
        # process that dies breaks no other's work.
        self._retire(number)
        self._forget_ended()
        context = multiprocessing.get_context("spawn")
        device = self._devices[number % len(self._devices)] if self._devices else None
        jobs = -(-len(self._slots) // len(self._devices)) if self._devices else 1
        start = (*self._start, device, jobs)
        pool = ProcessPoolExecutor(1, context, initializer=_start_worker, initargs=start)
        self._slots[number] = _Slot(pool, code)
        return pool

    def _finished(self, future: Future[Any], done: Future[Answer[Any]]) -> None:
        """Pass on what came back; nobody sees it before its slot is free and in order."""
        number = self._running.pop(future)
        if done.cancelled():
            return  # by close, after which nobody waits
        error = done.exception()
        if isinstance(error, BrokenProcessPool):
            self._last_lost = number
        if error is not None or done.result().spent:
            self._retire(number, crowded=error is None and done.result().spent == "crowded")
        if error is None:
            future.set_result(done.result().result)
        else:
            future.set_exception(error)

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
        count = len(self._devices)
        beside = {n for n in range(len(self._slots)) if count and n % count == number % count}
        if crowded and len(beside - self._closed) > 1:
            self._closed.add(number)


def _kill(pool: ProcessPoolExecutor) -> None:
    """Kill a pool's process, started or starting, and what it has started."""
    # Before Python 3.14 there is no public way to a pool's processes.
    for process in list((pool._processes or {}).values()):
        if process.pid is not None:
            # Its process group may not be there yet, or be gone already.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()


def _start_worker(
    environment: dict[str, str] | None,
    parent: int,
    threads: int,
    log: str,
    deterministic: bool,
    device: str | None,
    jobs: int,
) -> None:
    """Set up a worker: its threads, where its output goes, and that it dies with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the coordinator, which decides
    # So does what a cluster sends to all processes of a job. Not ignored, as SIGINT is: what a
    # method starts would inherit that, and could not be ended by it.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, _leave_to_the_coordinator)
    os.setpgid(0, 0)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
        os.environ["DML_JOBS_A_CARD"] = str(jobs)  # read where images are put on a device
    _write_to(log)
    open_streams("utf-8")  # what a method prints must not fail its job
    set_up_torch(threads, deterministic=deterministic)
    if device is not None:
        _start_cuda()
    import benchmark.engines.guard  # noqa: F401  (now, and not while the first job is timed)


def _load(modules: tuple[str, ...]) -> None:
    """Import ``modules``, so that no job waits for that."""
    for name in modules:
        importlib.import_module(name)


def _start_cuda() -> None:
    """Start CUDA, see :mod:`benchmark.engines.cuda`; a device that fails is left to the jobs.

    They meet the same failure, and tell it in their records.
    """
    from benchmark.engines import cuda  # here: it imports torch

    try:
        cuda.start()
    except (RuntimeError, AssertionError):  # the latter where torch was built without CUDA
        traceback.print_exc()


def _leave_to_the_coordinator(number: int, frame: FrameType | None) -> None:
    """Do nothing on a signal: the coordinator got it too, and ends this process."""


def _write_to(log: str) -> None:
    """Send this process' output to ``log``.

    Raises:
        OSError: it cannot be opened; the output goes nowhere then, least of all to a terminal.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK  # a pipe would be waited for
    try:
        output = os.open(log, flags, 0o644)
    except OSError:
        output = os.open(os.devnull, os.O_WRONLY)
        raise
    finally:
        os.dup2(output, 1)
        os.dup2(output, 2)


def set_up_torch(threads: int, *, deterministic: bool) -> None:
    """Make this process compute what every worker computes: threads, algorithms, memory.

    Operations without a deterministic implementation are a warning, or under ``deterministic``
    an error. Called once, before anything is computed.
    """
    keep_memory()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when CUDA starts
    import torch  # only in workers: the coordinator starts them without loading torch itself

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True, warn_only=not deterministic)
    # Without this every new tensor would first be filled with NaN, to find reads before writes.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    # By default convolutions of float32 on a GPU keep ten bits of each number.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"


def keep_memory() -> None:
    """Let the C library keep freed memory: tensors come and go with every training step.

    By default glibc hands large blocks back to the system and faults them in again, page by
    page: a tenth to a half of a small network's step. Elsewhere this does nothing.
    """
    if sys.platform == "linux":
        library, never = ctypes.CDLL(None), 1 << 30
        if hasattr(library, "mallopt"):
            library.mallopt(-3, never)  # M_MMAP_THRESHOLD
            library.mallopt(-1, never)  # M_TRIM_THRESHOLD


def _die_with(parent: int) -> None:
    """End this process and all that it started, soon after its parent is gone or was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)
