"""How a worker runs a call so that no other call feels it, on this machine or on a cluster."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from benchmark.broken import Spent, first_error, spent_by
from protocols.errors import BenchmarkError, in_words

T = TypeVar("T")
Code = tuple[str, ...]
SHIPPED: Code = ()
_NAMED = 20


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a worker sends back: the result, and why its process must not be used again, or "".

    ``changed`` where the job left it other than it was, else what the result says of itself.
    """

    result: T
    spent: str


class FailedError(RuntimeError):
    """What a call raised, in text, and whether its process can go on; both travel.

    Attributes:
        spent: see :mod:`benchmark.broken`.
    """

    def __init__(self, words: str, spent: Spent = "") -> None:
        super().__init__(words)
        self.spent = spent


def foreign(argument: Any) -> Code:
    """Return the names of the code in ``argument`` that does not ship, :data:`SHIPPED` if none."""
    return tuple(getattr(argument, "foreign", SHIPPED))


def run_alone(function: Callable[[Any], T], argument: Any) -> Answer[T]:
    """Run ``function(argument)`` in this process, and say whether anything may follow it here.

    Raises:
        BenchmarkError: as ``function`` raised it.
        FailedError: whatever else it raised, in text: an exception of a method's own could
            end the process that reads it, and so could one that is made to end a process.
    """
    from benchmark.engines.guard import Guard  # here: it imports torch

    guard = Guard()
    try:
        result = function(argument)
    except BenchmarkError:
        raise
    # Broad: whatever a method raises, sys.exit included, goes back in words, not as its object.
    except BaseException as error:
        traceback.print_exc()
        raise FailedError(in_words(first_error(error)), spent_by(error)) from None
    changed = guard.changed()
    if changed:
        names = ", ".join(changed[:_NAMED])
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        print(f"a job has changed what others would start from: {names}{more}", flush=True)
    return Answer(result, getattr(result, "spent", "") or ("changed" if changed else ""))
