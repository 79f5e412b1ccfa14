"""The order of methods where some have failed runs.

A mean over the runs that came through is a mean of something else than a mean over all runs, so a
method with failed runs has no place among complete ones. It stands after them, with what its
failed runs would have to score to change where its other runs put it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """A method's mean over its done runs, in the metric's unit, and how many failed."""

    name: str
    mean: float
    done: int
    failed: int = 0

    def score_for(self, mean: float) -> float:
        """Return what each failed run would have to score for ``mean`` over all runs."""
        return ((self.done + self.failed) * mean - self.done * self.mean) / self.failed


def order(standings: Iterable[Standing]) -> list[Standing]:
    """Return complete methods, best first, then those with failed runs in the same way."""
    return sorted(standings, key=lambda s: (s.failed > 0, -s.mean, s.name))


def apart(standing: Standing, standings: Sequence[Standing]) -> str:
    """Return what the failed runs of ``standing`` would have to score to change the order.

    Args:
        standing: a method with failed runs; scores are fractions.
        standings: all methods of its table; only complete ones are compared with.
    """
    above = [s for s in standings if not s.failed and s.mean >= standing.mean]
    below = [s for s in standings if not s.failed and s.mean < standing.mean]
    total = standing.done + standing.failed
    said = [
        f"{standing.name}: {standing.failed} of {total} runs failed, not ranked and not compared"
    ]
    if above:
        nearest = min(above, key=lambda s: (s.mean, s.name))
        said.append(_needed(standing.score_for(nearest.mean), f"to reach {nearest.name}", True))
    if below:
        nearest = max(below, key=lambda s: (s.mean, s.name))
        said.append(_needed(standing.score_for(nearest.mean), f"to fall to {nearest.name}", False))
    return "; ".join(said)


def _needed(score: float, what: str, upwards: bool) -> str:
    if not 0 <= score <= 1:
        return f"no score would do {what}"
    return f"{'at least' if upwards else 'at most'} {100 * score:.2f} each {what}"
