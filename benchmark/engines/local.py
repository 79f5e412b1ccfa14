"""Where jobs run: spawned processes on this machine, one job at a time in each.

The surface is that of :mod:`concurrent.futures`: ``submit`` gives a future. A process that dies
takes one job with it, and the next job gets a fresh one. Each worker leads a process group, so
that what a method starts dies with it, and a worker dies with its coordinator.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Engine(Protocol):
    """What the scheduler needs of what runs jobs.

    Attributes:
        lost: what a future raises when its worker died or was killed.
    """

    lost: type[Exception]

    @property
    def capacity(self) -> int:
        """Return how many jobs run at once, now."""
        ...

    def start(self) -> None:
        """Get workers ready while other things are prepared."""
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


class LocalEngine:
    """Processes on this machine.

    Args:
        capacity: how many jobs run at once.
        threads: CPU threads of each.
        log: file that takes what workers print.
        deterministic: whether an operation that may differ between two runs is an error.
        devices: the CUDA devices that workers share out, one each; empty on the CPU.
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
    ) -> None:
        self._devices = devices
        self._start = (os.getpid(), threads, str(log), deterministic)
        self._slots: list[ProcessPoolExecutor | None] = [None] * capacity
        self._closed: set[int] = set()  # slots of a device that proved too small for all its jobs
        self._running: dict[Future[Any], int] = {}
        self._lock = threading.RLock()

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
                pool, self._slots[number] = self._slots[number], None
                self._closed.add(number)
                if pool is not None:
                    _kill(pool)

    def start(self) -> None:
        """Start all processes now, so that they load torch while other things are prepared."""
        for number in range(len(self._slots)):
            self._fresh(number).submit(os.getpid)

    def submit(self, function: Callable[[Any], T], argument: Any) -> Future[T]:
        """Start ``function(argument)`` in a free process."""
        with self._lock:
            # A future wakes who waits for it before it calls back: settle it first.
            for done in [future for future in self._running if future.done()]:
                self._finished(done)
        taken = {*self._running.values(), *self._closed}
        number = next(n for n in range(len(self._slots)) if n not in taken)
        pool = self._slots[number] or self._fresh(number)
        try:
            future = pool.submit(function, argument)
        except BrokenProcessPool:  # died while idle
            future = self._fresh(number).submit(function, argument)
        self._running[future] = number
        future.add_done_callback(self._finished)
        return future

    def cancel(self, future: Future[Any]) -> None:
        """Kill the process of ``future``, which then fails with BrokenProcessPool."""
        number = self._running.get(future)
        pool = None if number is None else self._slots[number]
        if pool is not None:
            _kill(pool)

    def close(self) -> None:
        """Kill all processes and wait until they are gone."""
        for pool in self._slots:
            if pool is not None:
                _kill(pool)
                pool.shutdown(wait=True, cancel_futures=True)
        self._slots = [None] * len(self._slots)

    def _fresh(self, number: int) -> ProcessPoolExecutor:
        # spawn: a fork is unsafe once CUDA has started. One executor a process, so that a
        # process that dies breaks no other's work.
        context = multiprocessing.get_context("spawn")
        device = self._devices[number % len(self._devices)] if self._devices else None
        jobs = -(-len(self._slots) // len(self._devices)) if self._devices else 1
        start = (*self._start, device, jobs)
        pool = ProcessPoolExecutor(1, context, initializer=_start_worker, initargs=start)
        self._slots[number] = pool
        return pool

    def _finished(self, future: Future[Any]) -> None:
        """Free a future's slot, once its process is known to be of use; called twice at times."""
        with self._lock:
            number = self._running.get(future)
            if number is None:
                return
            error = None if future.cancelled() else future.exception()
            if isinstance(error, BrokenProcessPool):
                self._slots[number] = None
            done = error is None and not future.cancelled()
            if spent := getattr(future.result(), "spent", "") if done else "":
                self._retire(number, crowded=spent == "crowded")
            del self._running[future]

    def _retire(self, number: int, *, crowded: bool) -> None:
        """End a process that must not be used again; its device may have one job fewer now."""
        pool, self._slots[number] = self._slots[number], None
        if pool is not None:
            _kill(pool)
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
    parent: int, threads: int, log: str, deterministic: bool, device: str | None, jobs: int
) -> None:
    """Set up a worker: its threads, where its output goes, and that it dies with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the coordinator, which decides
    os.setpgid(0, 0)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
        os.environ["DML_JOBS_A_CARD"] = str(jobs)  # read where images are put on a device
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    set_up_torch(threads, deterministic=deterministic)


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
