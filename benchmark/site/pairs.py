"""Any two rows of a table beside each other: seed by seed, metric by metric, query by query."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmark.report.charts import Axis, Mark, spanning
from benchmark.site.content import Board, Row
from benchmark.statistics import paired
from benchmark.statistics.paired import Paired
from benchmark.study.scores import HEADLINE, HEADLINE_METRIC, PARTS, Part

SHOWN = 8  # queries that speak for each of the two


@dataclass(frozen=True)
class Query:
    """One test image that two methods retrieve for, with unlike success.

    Attributes:
        position: among the test images.
        label: its class id.
        a, b: the headline metric, a mean over seeds.
    """

    position: int
    label: int
    a: float
    b: float


@dataclass(frozen=True)
class Pair:
    """Row ``a`` beside row ``b`` of one table.

    Attributes:
        a, b: the rows.
        compared: by metric, over the seeds that both have run; metrics without a pair are missing.
        by_seed: (seed, value of a, value of b) of the headline metric.
        mark: differences of the headline metric in points.
        axis: of the mark.
        for_a, for_b: queries on which one is furthest ahead of the other; empty where no
            per-query files are submitted.
        labels: (N,) class ids of the test images, None without such files.
    """

    a: Row
    b: Row
    compared: dict[Part, Paired]
    by_seed: tuple[tuple[int, float, float], ...]
    mark: Mark
    axis: Axis
    for_a: tuple[Query, ...] = ()
    for_b: tuple[Query, ...] = ()
    labels: NDArray[np.int32] | None = None

    @property
    def name(self) -> str:
        """Return the file's name, without its ending."""
        return f"{self.a.name}--{self.b.name}"


def pairs(board: Board) -> list[Pair]:
    """Return every two rows of a table, in the table's order."""
    found = {id(row): _queries(row) for row in board.rows}
    return [_pair(a, b, found[id(a)], found[id(b)]) for a, b in combinations(board.rows, 2)]


Found = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]  # labels, query, values


def _pair(a: Row, b: Row, of_a: Found | None, of_b: Found | None) -> Pair:
    compared = {}
    for part in PARTS:
        both = _both(a, b, part)
        if both:
            rng = np.random.default_rng(0)
            compared[part] = paired.paired(
                [x for _, x, _ in both], [y for _, _, y in both], rng=rng
            )
    by_seed = tuple(_both(a, b, HEADLINE))
    points = [100 * (x - y) for _, x, y in by_seed]
    head = compared[HEADLINE].difference if HEADLINE in compared else None
    ends = [
        None if head is None or value is None else 100 * value
        for value in ((head.mean, head.low, head.high) if head else (None, None, None))
    ]
    mark = Mark(f"{a.name} - {b.name}", ends[0], ends[1], ends[2], tuple(points))
    for_a, for_b, labels = _ahead(of_a, of_b)
    margin = 100 * paired.ROPE
    axis = spanning([*mark.values, -margin, margin], zero=True)
    return Pair(a, b, compared, by_seed, mark, axis, for_a, for_b, labels)


def _both(a: Row, b: Row, part: Part) -> list[tuple[int, float, float]]:
    """Return (seed, value of a, value of b) where both have a value.

    One run in which nothing is drawn stands for every seed of the other.
    """
    own, other = list(a.values(part)), list(b.values(part))
    if a.submitted.fixed and not b.submitted.fixed:
        own = [(seed, own[0][1]) for seed, _ in other]
    elif b.submitted.fixed and not a.submitted.fixed:
        other = [(seed, other[0][1]) for seed, _ in own]
    values = zip(own, other, strict=False)
    return [(s, x, y) for (s, x), (_, y) in values if not (math.isnan(x) or math.isnan(y))]


def _queries(row: Row) -> Found | None:
    """Return what a row's runs found for each query, a mean over seeds; None without files."""
    held = [values for _, values in sorted(row.submitted.values.items())]
    if not held or HEADLINE_METRIC not in held[0].found:
        return None
    first = held[0]
    alike = [v for v in held if np.array_equal(v.query, first.query)]
    mean = np.mean([v.found[HEADLINE_METRIC][0].astype(np.float64) for v in alike], axis=0)
    return first.labels, first.query, mean


def _ahead(
    a: Found | None, b: Found | None
) -> tuple[tuple[Query, ...], tuple[Query, ...], NDArray[np.int32] | None]:
    """Return the queries on which a, and b, is furthest ahead, one of each class at most."""
    if a is None or b is None or not np.array_equal(a[1], b[1]) or not np.array_equal(a[0], b[0]):
        return (), (), None
    labels, query, x = a
    y = b[2]
    valid = ~(np.isnan(x) | np.isnan(y))
    order = np.argsort(np.where(valid, y - x, 0.0), kind="stable")

    def pick(positions: Sequence[int], sign: float) -> tuple[Query, ...]:
        chosen: dict[int, Query] = {}
        for n in positions:
            label = int(labels[query[n]])
            if len(chosen) == SHOWN or sign * (x[n] - y[n]) <= 0:
                break
            if valid[n]:
                found = Query(int(query[n]), label, float(x[n]), float(y[n]))
                chosen.setdefault(label, found)
        return tuple(chosen.values())

    return pick(order.tolist(), 1.0), pick(order[::-1].tolist(), -1.0), labels
