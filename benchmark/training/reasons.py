"""Why a job failed, as one word: see :mod:`benchmark.study.failures` for whose fault each is."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmark.broken import Spent, first_error, out_of_memory, spent_by
from benchmark.study.records import Reason
from benchmark.training.fit import NonFiniteError
from protocols.errors import DataError, StoreError, in_words

# What the system refuses to whoever asks: room on a disk, files, memory, a device that is gone.
_REFUSALS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENXIO}
    | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
)


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


def why_failed(error: BaseException, files: Sequence[Sequence[Path]]) -> tuple[Reason, str, Spent]:
    """Return why a job failed, that in words with file and line, and what became of its process.

    Called while ``error`` is dealt with: where the process is spent, its traceback is printed.
    """
    cause, spent = first_error(error), spent_by(error)
    if spent:
        traceback.print_exc()
    last = traceback.extract_tb(cause.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in last)
    return reason_of(cause, files), f"{in_words(cause)}{where}"[:2000], spent
