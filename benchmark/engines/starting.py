"""Whether worker processes can be started here, asked before a study writes anything."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import spawn
from pathlib import Path

from protocols.errors import InvalidInputError

# A process that has loaded torch 2.11 for the CPU and the packages around it maps 4.0 GB before it
# computes anything, of which it uses 0.8; with 3.7 GB torch ends the process, with 4.2 it trains.
ADDRESS_SPACE_BYTES = 4 << 30
SEMAPHORES = 5  # of one worker: its queue of calls has three, that of its answers two


def check_system() -> None:
    """Raise InvalidInputError on Windows, which lacks what keeps workers in hand."""
    if not hasattr(os, "killpg"):
        raise InvalidInputError(
            "methods run on Linux and macOS only (on Windows use WSL 2). Here tables, report, "
            "verify and list work, on folders and results made elsewhere"
        )


def check_address_space() -> None:
    """Raise InvalidInputError where a limit on a process' addresses is too tight for torch.

    Torch would end the process without a word of Python's, or fail to import. A system that
    cannot run workers at all is refused first, see :func:`check_system`.
    """
    check_system()
    import resource  # only now, because Windows has none

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < ADDRESS_SPACE_BYTES:
        raise InvalidInputError(
            f"a process may map {limit / 1e9:.1f} GB here (ulimit -v {limit >> 10}), torch needs "
            f"{ADDRESS_SPACE_BYTES / 1e9:.1f} GB before it computes anything. Lift the limit with: "
            "ulimit -v unlimited"
        )


def check_processes(workers: int) -> None:
    """Raise InvalidInputError where so many workers could not start: each would be a lost job.

    A worker imports the program that starts it, and waits for calls at semaphores, which the
    system keeps in shared memory.
    """
    program = spawn.get_preparation_data("worker").get("init_main_from_path")
    if program is not None and not Path(program).is_file():
        raise InvalidInputError(
            f"this program was read from {os.path.basename(program)}, and worker processes cannot "
            "read it again. Save it as a file and run that, or use: python -m benchmark"
        )
    context = multiprocessing.get_context("spawn")
    held = []
    try:
        for _ in range(SEMAPHORES * workers):
            held.append(context.Lock())
    except (OSError, ImportError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(
            f"{workers} workers need {SEMAPHORES * workers} semaphores, and shared memory "
            f"(/dev/shm) took {len(held)} ({reason}). Give the machine or container a larger one "
            "that can be written, like docker run --shm-size 1g, or use fewer --jobs"
        ) from error
