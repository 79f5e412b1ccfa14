"""What a process is made into before it runs jobs, and that it ends with what started it."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from types import FrameType

from benchmark.engines.ahead import DRIVER_S, start_driver
from benchmark.streams import open_streams, send_output_to

WORKSPACE = ":4096:8"  # of cuBLAS: one of the two with which it gives the same bits each time
JOBS_A_CARD = "DML_JOBS_A_CARD"  # read where images are put on a device


def start(
    environment: dict[str, str] | None,
    parent: int,
    threads: int,
    log: str,
    deterministic: bool,
    device: str | None,
    jobs: int,
) -> None:
    """Set up a worker: its threads, where its output goes, and that it dies with its parent.

    Args:
        environment: its variables; None for those it was started with.
        parent: the process with which it ends.
        threads: CPU threads of a job.
        log: file that takes what it prints.
        deterministic: see :func:`set_up_torch`.
        device: the one CUDA device that it sees; None on the CPU.
        jobs: how many share that.
    """
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
        os.environ[JOBS_A_CARD] = str(jobs)
        os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # as torch sets it, read by the driver
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = WORKSPACE  # read when CUDA starts
    send_output_to(log)
    open_streams("utf-8")  # what a method prints must not fail its job
    if device is not None and (driver := start_driver(first_device=True)):
        # The driver reads environment variables meanwhile: none may change before it is there.
        importlib.import_module("torch")
        driver.join(DRIVER_S)
    set_up_torch(threads, deterministic=deterministic)
    if device is not None:
        _start_cuda()
    import benchmark.engines.guard  # noqa: F401  (now, and not while the first job is timed)


def load(modules: tuple[str, ...]) -> None:
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


def set_up_torch(threads: int, *, deterministic: bool) -> None:
    """Make this process compute what every worker computes: threads, algorithms, memory.

    Operations without a deterministic implementation are a warning, or under ``deterministic``
    an error. Called once, before anything is computed.
    """
    keep_memory()
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") != WORKSPACE:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = WORKSPACE  # read when CUDA starts
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
