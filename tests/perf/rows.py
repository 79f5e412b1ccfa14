"""Alternating measurements, and the rows they end in."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

ROUNDS = 5
_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured.
        ratio: the number that the target speaks of; None where it could not be measured.
        target: ``>= 0.9`` or ``<= 2``; empty where the row only informs.
        n: rounds behind the median.
        detail: both sides' times and all that a reader must know.
        unit: empty for a ratio of two times, else what ``ratio`` counts.
    """

    what: str
    ratio: float | None
    target: str
    n: int
    detail: str
    unit: str = ""

    @property
    def passed(self) -> bool | None:
        """Return whether the target is met, None where there is none or no number."""
        if self.ratio is None or not self.target:
            return None
        sign, bound = self.target.split()
        return bool(_COMPARE[sign](self.ratio, float(bound)))


def in_turn(
    sides: Mapping[str, Callable[[], float]], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Return each side's values, one a round; every other round goes through them backwards."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in names:
            found[name].append(sides[name]())
    return found


def ratio(above: list[float], below: list[float]) -> float:
    """Return the median over rounds of ``above`` / ``below``: what drifts cancels in each."""
    return median(a / b for a, b in zip(above, below, strict=True))


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def shown(values: Mapping[str, list[float]], unit: str = "s") -> str:
    """Return each side's median, for the details."""
    return ", ".join(f"{name} {median(v):.3g} {unit}" for name, v in values.items())


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
