"""The critical-difference diagram: mean ranks on an axis, bars over methods not told apart.

The tables group methods only where there are datasets enough for a difference to be found at all;
otherwise they say how many it takes and there is no diagram:
:func:`benchmark.statistics.across.why_not`.

Source: Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", 2006 (drawing);
the groups are those of Holm-adjusted Wilcoxon tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmark.report.charts import Axis, Mark
from benchmark.study.scores import HEADLINE
from benchmark.tables.frames import Tables

Ends = tuple[float, float]


@dataclass(frozen=True)
class Diagram:
    """Methods by mean rank, and the groups that no pair of them tells apart.

    Attributes:
        title: trunk and recipe.
        datasets: how many were ranked.
        axis: mean ranks, 1 is best.
        marks: a method each, best first; ``mean`` is its rank, with its interval.
        bars: (best, worst) mean rank of each group of at least two.
    """

    title: str
    datasets: int
    axis: Axis
    marks: list[Mark]
    bars: list[Ends]


def diagrams(tables: Tables) -> Iterator[Diagram]:
    """Yield a diagram of every trunk and recipe that can have one, of joined embeddings' MAP@R."""
    frame = tables.across
    if not len(frame):
        return
    main = frame[(frame["embedding"] == HEADLINE[0]) & (frame["metric"] == HEADLINE[1])]
    for (trunk, recipe), rows in main.groupby(["trunk", "recipe"], sort=True):
        found: list[Any] = list(rows.itertuples(index=False))
        known = [row for row in found if not math.isnan(row.rank)]
        ranked = [row for row in known if not row.note]  # a note says why there are no groups
        if ranked:
            yield _diagram(f"{trunk} · {recipe}", sorted(ranked, key=lambda row: row.rank))


def _diagram(title: str, rows: list[Any]) -> Diagram:
    groups: dict[str, list[float]] = {}
    for row in rows:
        for number in str(row.cliques).split():
            groups.setdefault(number, []).append(row.rank)
    ticks = tuple(float(k) for k in range(1, len(rows) + 1))
    return Diagram(
        title=title,
        datasets=max(row.datasets for row in rows),
        axis=Axis(0.5, len(rows) + 0.5, ticks),
        marks=[
            Mark(str(row.method), row.rank, _known(row.rank_ci_low), _known(row.rank_ci_high))
            for row in rows
        ],
        bars=[(min(ranks), max(ranks)) for ranks in groups.values() if len(ranks) > 1],
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
