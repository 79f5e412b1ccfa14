"""Which comparisons are not tested, however many seeds there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from benchmark.study.step_zero import Ended, wholly_untrained

FAILED_RUNS = "failed runs"
BOTH_UNTRAINED = "both untrained"


@dataclass(frozen=True)
class Contestant:
    """A method's final runs, and whether they train at all."""

    runs: Collection[Ended]
    trains: bool


def reasons(methods: Sequence[Contestant], pairs: Sequence[tuple[int, int]]) -> list[str]:
    """Return why each pair is not tested, empty for one that is.

    Failed runs of either: runs that came through are no sample of all. Where the lowest three of
    ten diverge, equal methods would be called better in 9 % of studies.

    Both untrained: all folds of both kept the model of step 0. Their runs then differ by what was
    drawn before the first step, if at all, so neither "equivalent" nor more seeds say anything of
    the methods. What never trains is taken as it is, and tested.

    Args:
        methods: of one table.
        pairs: places (a, b) in ``methods``.
    """
    failed = [any(run.status == "failed" for run in method.runs) for method in methods]
    untrained = [method.trains and wholly_untrained(method.runs) for method in methods]
    return [
        FAILED_RUNS * (failed[a] or failed[b]) or BOTH_UNTRAINED * (untrained[a] and untrained[b])
        for a, b in pairs
    ]
