"""What the methods of one dataset, trunk and recipe cost, as a heading and a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.report.charts import Scatter, number
from benchmark.report.rows import MethodRow
from benchmark.study.scores import HEADLINE_METRIC, label_of
from benchmark.study.spending import Price, Spending
from benchmark.tables import costs
from benchmark.tables.costs import OTHER, other_images
from benchmark.tables.frames import Tables

# Heading, what MethodRow.mean() is asked for, digits.
_MEASURED = (
    ("Parameters trained", "parameters_trained", 0),
    ("Parameters deployed", "parameters_deployed", 0),
    ("Images trained", "images_trained", 0),
    ("The protocol's images", "images_protocol", 0),
    ("Training, s", "train_s", 1),
    ("With tests, s", "seconds", 1),
    ("CPU s", "cpu_s", 1),
    ("Search, s", "search_s", 0),
    ("GPU memory, MB", costs.MEMORY, 0),
)


@dataclass(frozen=True)
class CostTable:
    """Column names after the method's, and each method with its cells."""

    header: tuple[str, ...]
    lines: tuple[tuple[MethodRow, tuple[str, ...]], ...]

    @property
    def searched(self) -> bool:
        """Return whether there is a column of what searches took."""
        return "Search, s" in self.header


class Bill:
    """What a study's rows cost in all, with what they share split among them.

    Attributes:
        whole: what the study cost, in words.
        shared: how it is split.
    """

    def __init__(self, frames: Tables, price: Price | None) -> None:
        every = costs.records_of(frames)
        spending = Spending(every)
        self.whole = costs.in_words(spending.of(every), price)
        self.shared = costs.SHARED
        made = costs.frame(frames.cells, spending, price)
        self._totals = made.set_index(["dataset", "trunk", "recipe", "method"]).to_dict("index")
        self._header = costs.shown_totals(made)

    def table(self, rows: Sequence[MethodRow]) -> CostTable:
        """Return means over runs, and totals; the searches' column only where seconds are known."""
        searched = any(row.search_s is not None for row in rows)
        kept = {
            "search_s": searched,
            costs.MEMORY: any(_value(row, costs.MEMORY) is not None for row in rows),
        }
        columns = [column for column in _MEASURED if kept.get(column[1], True)]
        return CostTable(
            (label_of(HEADLINE_METRIC), *(name for name, _, _ in columns), *self._header.values()),
            tuple((row, (*_cells(row, columns), *self._sums(row))) for row in rows),
        )

    def _sums(self, row: MethodRow) -> Iterator[str]:
        """Yield the totals of a row; dashes for one without finished runs."""
        key = row.key
        found = self._totals.get((key.dataset, key.trunk, key.recipe, row.name), {})
        for name in self._header:
            yield costs.small(found.get(name))


def heading(charts: Sequence[Scatter]) -> str:
    """Return how long the training of one seed took, or that this is about cost."""
    times = [point.x for point in charts[0].points if point.x > 0] if charts else []
    if not times:
        return "Cost"
    low, high = min(times), max(times)
    return f"Training one seed took {number(low, 1)}{_to(low, high)} s, wall-clock"


def _to(low: float, high: float) -> str:
    return f" to {number(high, 1)}" if high > low else ""


def _value(row: MethodRow, name: str) -> float | None:
    if name == "search_s":
        return row.search_s
    found = costs.mean_of(row.done, name)
    return None if math.isnan(found) else found


def _cells(row: MethodRow, columns: Sequence[tuple[str, str, int]]) -> Iterator[str]:
    yield number(row.main.mean if row.main else None)
    other = other_images(row.mean("images_trained"), row.mean("images_protocol"))
    for _, name, digits in columns:
        found = number(_value(row, name), digits)
        yield f"{found} {OTHER}" if other and name == "images_trained" else found
