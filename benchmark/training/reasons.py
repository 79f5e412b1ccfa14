"""Why a job failed, as one word: see :mod:`benchmark.study.failures` for whose fault each is."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.broken import Spent, first_error, out_of_memory, spent_by
from benchmark.study.records import Reason
from benchmark.training.fit import NonFiniteError
from protocols.blame import modules_of, raised
from protocols.errors import BenchmarkError, DataError, StoreError, in_words
from protocols.method import Method

# What the system refuses to whoever asks: room on a disk, files, memory, a device that is gone.
_REFUSALS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENXIO}
    | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
)


@dataclass(frozen=True)
class Fault:
    """Why a job failed: a typed reason, what was raised and where, in words.

    ``spent`` says that the worker's process must not be used again, see :mod:`benchmark.broken`.
    """

    reason: Reason
    detail: str
    spent: Spent = ""


def fault_of(error: BaseException, files: Sequence[Sequence[Path]]) -> Fault:
    """Return what ``error`` of a job says; of one that spends its process the trace is printed.

    Args:
        error: what the job raised; it is being handled.
        files: what the job reads.
    """
    cause, spent = first_error(error), spent_by(error)
    if spent:
        traceback.print_exc()
    return Fault(reason_of(cause, files), explain(cause), spent)


def reason_of(error: BaseException, files: Sequence[Sequence[Path]] = ()) -> Reason:
    """Return the typed reason for an exception of a job.

    Args:
        error: what was raised first.
        files: what the job reads: where one of them is gone, any error is ``bad_data``.
    """
    if isinstance(error, NonFiniteError):
        return "non_finite"
    if isinstance(error, MemoryError) or out_of_memory(error):
        return "oom"
    if isinstance(error, (DataError, StoreError)):
        return "bad_data"
    refused = isinstance(error, OSError) and error.errno in _REFUSALS
    if refused or spent_by(error) in ("broken", "recording"):
        return "crash"
    return "error" if all(file.exists() for group in files for file in group) else "bad_data"


def explain(error: BaseException) -> str:
    """Return what was raised, and where: in the method if it came by there, else innermost.

    What this program refuses in words of its own needs no place in its own code.
    """
    return f"{in_words(error)}{place_of(error)}"[:2000]


def place_of(error: BaseException) -> str:
    """Return where an error arose, as `` (FILE:LINE)``; "" where its words are enough."""
    place = raised(error, modules_of(Method))
    frames = traceback.extract_tb(error.__traceback__)
    if frames and not place and not isinstance(error, BenchmarkError):
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    return f" ({place})" if place else ""
