"""Does validation rank the methods as the test does, and what would choosing on test claim?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmark.report.charts import Point, Scatter, number, place_labels, spanning
from benchmark.report.rows import MethodRow
from benchmark.study.scores import HEADLINE_METRIC
from benchmark.tables import diagnostics

SEPARATED = ("separated", HEADLINE_METRIC)


@dataclass(frozen=True)
class Gap:
    """What the epoch that tested best would have claimed; per cent and points.

    ``half`` is the half-width of the gap's t-interval over ``n`` runs, None below three;
    ``alike`` tells that all runs have the same gap, which is no interval.
    """

    method: str
    n: int
    selected: float
    claimed: float
    gap: float
    half: float | None
    alike: bool


@dataclass(frozen=True)
class Agreement:
    """Validation and test of the methods that train, separated embeddings, per cent.

    Attributes:
        scatter: a point for each method.
        rho: Spearman's, None below five methods.
        methods: how many there are.
        first_by_validation, first_by_test: the methods on top.
        gaps: what choosing the epoch on test would have claimed, where that was watched.
    """

    scatter: Scatter
    rho: float | None
    methods: int
    first_by_validation: str = ""
    first_by_test: str = ""
    gaps: tuple[Gap, ...] = ()

    @property
    def heading(self) -> str:
        """Return what validation says of the test, as far as the methods allow."""
        if self.rho is not None:
            rho = number(self.rho, 2, signed=True)
            return f"Validation ranks {self.methods} methods as the test does to ρ = {rho}"
        if self.first_by_validation == self.first_by_test:
            return f"{self.first_by_test} is first on validation and on test"
        return f"Validation puts {self.first_by_validation} first, the test {self.first_by_test}"

    @property
    def largest_gap(self) -> float | None:
        """Return the most that choosing on test would have claimed, None if nothing watched."""
        return max((gap.gap for gap in self.gaps), default=None)


def agreement(group: Sequence[MethodRow]) -> Agreement:
    """Return how validation and test agree over the methods of one dataset, trunk and recipe."""
    points = [
        Point(row.name, *both, row.role) for row in group if row.key.trains and (both := _both(row))
    ]
    x = spanning((p.x for p in points), count=4, room=0.12)
    y = spanning((p.y for p in points), count=4, room=0.12)
    scatter = Scatter(x, y, tuple(points), "validation MAP@R, %", "test MAP@R, %")
    return Agreement(
        scatter=place_labels(scatter),
        rho=diagnostics.rank_correlation([p.x for p in points], [p.y for p in points]),
        methods=len(points),
        first_by_validation=max(points, key=lambda p: p.x).name if points else "",
        first_by_test=max(points, key=lambda p: p.y).name if points else "",
        gaps=tuple(gap for row in group if (gap := _gap(row))),
    )


def _both(row: MethodRow) -> tuple[float, float] | None:
    """Return a method's mean validation and mean separated test value, in per cent."""
    known = [run.validation[HEADLINE_METRIC] for run in row.done if run.validation]
    test = row.scores.get(SEPARATED)
    return (100 * fmean(known), test.mean) if known and test else None


def _gap(row: MethodRow) -> Gap | None:
    found = diagnostics.oracle_gap(row.done, HEADLINE_METRIC)
    if found.mean is None:
        return None
    watched = [run for run in row.done if run.oracle and run.separated]
    claimed = fmean(run.oracle[HEADLINE_METRIC] for run in watched if run.oracle)
    selected = fmean(run.separated[HEADLINE_METRIC] for run in watched if run.separated)
    half = None if found.low is None or found.high is None else 50 * (found.high - found.low)
    return Gap(
        row.name, found.n, 100 * selected, 100 * claimed, 100 * found.mean, half, found.alike
    )
