"""What the bounds and values of a hyperparameter may be, and where a value stands in its range."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

from protocols.errors import InvalidInputError


def comes_back(value: object) -> bool:
    """Return whether JSON gives ``value`` back, equal and of its type."""
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is str:  # half a character cannot be written
        return not any("\ud800" <= sign <= "\udfff" for sign in value)
    return type(value) in (int, bool)


def between(low: float, high: float, share: float) -> float:
    """Return the number at ``share`` of the way from ``low`` to ``high``."""
    return low + share * (high - low)


def share_between(low: float, high: float, value: float) -> float:
    """Return how far on the way from ``low`` to ``high`` a value is: of ``between`` the inverse."""
    return (value - low) / (high - low)


def check_numbers(*values: object) -> None:
    """Raise InvalidInputError for a value that is no number: a text is not read as one."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise InvalidInputError(
                f"{value!r} is a {type(value).__name__}: expected numbers, without quotes"
            )


def check_options(options: object) -> None:
    """Raise InvalidInputError unless options come in a fixed order, one after the other."""
    if isinstance(options, (str, bytes)) or not isinstance(options, Sequence):
        raise InvalidInputError(
            f"options {options!r} are a {type(options).__name__}: expected a list of them, like "
            "['hinge', 'soft']"
        )


def check_range(low: float, high: float, default: float, log: bool) -> None:
    """Raise InvalidInputError unless low <= default <= high, and low > 0 on a log scale."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidInputError(f"bounds [{low}, {high}]: expected low < high, both finite")
    if not low <= default <= high:
        raise InvalidInputError(f"default {default} lies outside its bounds [{low}, {high}]")
    if log and low <= 0:
        raise InvalidInputError(f"bounds [{low}, {high}]: a log scale needs low > 0")
