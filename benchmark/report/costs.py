"""What the methods of one dataset, trunk and recipe cost, as a heading and a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.report.charts import Scatter, number
from benchmark.report.rows import MethodRow
from benchmark.study.scores import HEADLINE_METRIC, label_of
from benchmark.tables.costs import OTHER, other_images

# Heading, what MethodRow.mean() is asked for, digits.
_MEASURED = (
    ("Parameters trained", "parameters_trained", 0),
    ("Parameters deployed", "parameters_deployed", 0),
    ("Images trained", "images_trained", 0),
    ("The protocol's images", "images_protocol", 0),
    ("Training, s", "train_s", 1),
    ("With tests, s", "seconds", 1),
    ("Search, s", "search_s", 0),
    ("Peak memory, MB", "peak_memory_mb", 0),
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


def table(rows: Sequence[MethodRow]) -> CostTable:
    """Return means over runs; the column of the searches only where one has its seconds."""
    searched = any(row.search_s is not None for row in rows)
    columns = [column for column in _MEASURED if searched or column[1] != "search_s"]
    return CostTable(
        (label_of(HEADLINE_METRIC), *(name for name, _, _ in columns)),
        tuple((row, tuple(_cells(row, columns))) for row in rows),
    )


def heading(costs: Sequence[Scatter]) -> str:
    """Return how long the training of one seed took, or that this is about cost."""
    times = [point.x for point in costs[0].points if point.x > 0] if costs else []
    if not times:
        return "Cost"
    low, high = min(times), max(times)
    return f"Training one seed takes {number(low, 1)}{_to(low, high)} s"


def _to(low: float, high: float) -> str:
    return f" to {number(high, 1)}" if high > low else ""


def _cells(row: MethodRow, columns: Sequence[tuple[str, str, int]]) -> Iterator[str]:
    yield number(row.main.mean if row.main else None)
    other = other_images(row.mean("images_trained"), row.mean("images_protocol"))
    for _, name, digits in columns:
        found = number(row.search_s if name == "search_s" else row.mean(name), digits)
        yield f"{found} {OTHER}" if other and name == "images_trained" else found
