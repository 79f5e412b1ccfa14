"""Waiting for what is measured before a study starts: for no code of a method without end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from benchmark.engines.local import Engine

T = TypeVar("T")

# A first step and a few more take seconds, on a busy machine or of a large network minutes.
MOST_S = 600.0
_KILLED_S = 60.0  # a process that is killed is gone at once, on another machine soon


def rounds(items: Sequence[T], engine: Engine) -> Iterator[tuple[list[T], int]]:
    """Yield as many items at a time as jobs run at once, and how many do.

    That is asked once a round: it falls where a device proves too small.
    """
    waiting = list(items)
    while waiting:
        count = engine.capacity
        some, waiting = waiting[:count], waiting[count:]
        yield some, count


def errors_of(futures: Sequence[Future[Any]], engine: Engine) -> list[BaseException | None]:
    """Return how each of ``futures`` failed, None for those that did not.

    What has not ended after :data:`MOST_S` seconds is killed, and has failed with a TimeoutError.
    """
    deadline = time.monotonic() + MOST_S
    return [_error(future, engine, deadline) for future in futures]


def _error(future: Future[Any], engine: Engine, deadline: float) -> BaseException | None:
    try:
        return future.exception(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        engine.cancel(future)
    with suppress(TimeoutError):  # so that what is started next finds its place free
        future.exception(_KILLED_S)
    return TimeoutError(f"it did not end in {MOST_S:g} s")
