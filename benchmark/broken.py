"""Whether a process can go on after an error: too little memory, a broken device, or neither.

Read from what torch and CUDA's libraries say, where a job runs and where an engine hears of it.
torch itself is not imported: most of the program has no use for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from protocols.errors import in_words

Spent = Literal["", "broken", "recording", "crowded"]
_NO_MEMORY = re.compile(r"out of memory|_ALLOC_FAILED|^OutOfMemoryError: ", re.IGNORECASE)
_BROKEN = re.compile(
    r"CUDA (driver )?error|CUDA_ERROR_|cuDNN error|cuFFT error|Triton Error \[CUDA\]"
    r"|(CUDNN|CUBLAS|CUSOLVER|CUSPARSE)_STATUS"
    r"|Unexpected error from cuda|MPS (client|server)"  # as CUDA does not even start
)


class BrokenByRecordingError(RuntimeError):
    """A recording of a step that failed has left a device that answers no more."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether a device had too little memory, as torch or a library of it says so."""
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(in_words(error)))


def spent_by(error: BaseException) -> Spent:
    """Return whether a process can go on after ``error``: ``""`` where it can.

    After an error of CUDA or its libraries every further call may fail (``broken``), also where a
    recording did that (``recording``). A process that ran out of memory may hold what its
    neighbours need (``crowded``). What was raised on the way to ``error`` counts too: it may be
    what a method, or code that tidies up, said after the device had failed.
    """
    met = {_alone(each) for each in _chain(error)}
    order: tuple[Spent, ...] = ("recording", "broken", "crowded")
    return next((word for word in order if word in met), "")


def first_error(error: BaseException) -> BaseException:
    """Return what went wrong first: ``error`` itself unless a device failed on the way to it.

    Of several errors of a device the earliest is told, but where a recording broke it the error
    that found this out.
    """
    met = [each for each in _chain(error) if _alone(each)]
    recording = [each for each in met if _alone(each) == "recording"]
    return (recording or met or [error])[-1]


def _alone(error: BaseException) -> Spent:
    """Return what one error says by itself."""
    if isinstance(error, BrokenByRecordingError):
        return "recording"
    if out_of_memory(error):
        return "crowded"
    broken = isinstance(error, RuntimeError) and _BROKEN.search(in_words(error))
    return "broken" if broken else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from or after, each once, the latest first."""
    seen: set[int] = set()  # a method may have tied its errors to a circle
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            yield found
            waiting += [found.__context__, found.__cause__]
