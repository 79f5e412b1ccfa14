"""The order of similarities that float32 leaves open, and the written order itself.

The search in :mod:`protocols.nearest` finds candidates by float32 products. The order that
counts is that of similarities summed in float64 and rounded to float32; equal ones stand in the
order of their index. What float32 cannot tell apart is settled here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Ids = NDArray[np.int64]

_ALL = 1 << 24  # float64 similarities held at once: 128 MB


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        queries: (Q, D).
        items: (N, D).
        half_squares: (N,) what is taken off q . x: |x|^2 / 2 to rank by distance, 0 by angle.
        own: the queries are the items, and none is its own neighbour.
        margin: (Q,) how far two float32 similarities may be apart in the wrong order.
    """

    queries: Rows
    items: Rows
    half_squares: NDArray[np.float64]
    own: bool
    margin: Rows

    @property
    def shift(self) -> Rows | None:
        """Return the half squares in float32, None where all are 0."""
        return self.half_squares.astype(np.float32) if self.half_squares.any() else None


class Found(NamedTuple):
    """The nearest items of some queries.

    Attributes:
        column: (b, width) items, nearest first.
        tied: (b, width) whether an item is exactly as near as the one before it, so that only
            the index orders the two.
    """

    column: Ids
    tied: NDArray[np.bool_]

    @classmethod
    def empty(cls, queries: int, width: int) -> Found:
        """Return room for ``queries`` rows, nothing tied."""
        return cls(np.empty((queries, width), np.int64), np.zeros((queries, width), bool))

    def put(self, rows: slice | Ids, part: Found) -> None:
        """Copy ``part`` to some rows."""
        self.column[rows], self.tied[rows] = part


class Pairs(NamedTuple):
    """Queries and items that may be neighbours, and their float32 similarities."""

    row: Ids
    column: Ids
    value: Rows


def order(search: Search, asking: Ids, pairs: Pairs, width: int) -> Found:
    """Return the ``width`` nearest columns of each query ``asking`` among ``pairs``.

    ``row`` of a pair is a position in ``asking``; each query has at least ``width`` pairs.
    """
    by_value = np.lexsort((-pairs.value, pairs.row))
    row, column, value = pairs.row[by_value], pairs.column[by_value], pairs.value[by_value]
    apart = value[:-1] - value[1:] > search.margin[asking][row[1:]]
    starts = np.concatenate([[True], apart | (row[1:] != row[:-1])])
    run = np.cumsum(starts) - 1  # within a run of close similarities float32 does not decide
    begins = np.flatnonzero(starts)
    first = np.searchsorted(row, np.arange(len(asking)))
    # A run that begins behind the width nearest has no part in them, in whatever order.
    matters = (np.diff(begins, append=len(row)) > 1) & (begins - first[row[begins]] < width)
    open_ = np.flatnonzero(matters[run])
    tied = np.zeros(len(row), bool)
    key = similarities(search, asking[row[open_]], column[open_])
    column[open_], tied[open_] = _arranged(key, run[open_], column[open_])
    wanted = first[:, None] + np.arange(width)
    return Found(column[wanted], tied[wanted])


def _arranged(key: Rows, run: Ids, column: Ids) -> tuple[Ids, NDArray[np.bool_]]:
    """Return the columns (P,) of each run in the written order, and which tie with the last.

    Args:
        key: (P,) the similarities of pairs of a query and an item, see :func:`similarities`.
        run: (P,) ascending; pairs of one run change places among themselves only.
        column: (P,) the item of each pair.
    """
    by_key = np.lexsort((column, -key, run))
    key, tied = key[by_key], np.zeros(len(key), bool)
    tied[1:] = (key[1:] == key[:-1]) & (run[1:] == run[:-1])
    return column[by_key], tied


def similarities(search: Search, row: Ids, column: Ids) -> Rows:
    """Return the similarities of pairs, summed in float64 in an order that is always the same.

    It is the order in which numpy adds numbers that lie side by side, which
    :func:`protocols.nearest_device.row_sums` keeps on a device.
    """
    found = np.empty(len(row), np.float32)
    step = max(1, _ALL // 8 // search.items.shape[1])
    for start in range(0, len(row), step):
        some = slice(start, start + step)
        left = search.queries[row[some]].astype(np.float64)
        left *= search.items[column[some]]
        found[some] = left.sum(axis=1) - search.half_squares[column[some]]
    return found


def exact(search: Search, asking: Ids, width: int) -> Found:
    """Return the nearest of some queries from all similarities in float64."""
    found = Found.empty(len(asking), width)
    for here, similarity in in_full(search, asking):
        found.put(here, _best(similarity, width))
    return found


def in_full(search: Search, asking: Ids) -> Iterator[tuple[slice, Rows]]:
    """Yield blocks of ``asking`` and their similarities (b, N) to all items.

    A query's similarity to itself is minus infinity where the queries are the items.
    """
    # Sums in float64, ranks in float32: BLAS adds in an order that depends on the position, and
    # float32 sums of exact duplicates would differ in the last bit, which breaks the tie rule.
    right = search.items.astype(np.float64) if len(asking) else search.items
    block = max(1, _ALL // len(right))
    for start in range(0, len(asking), block):
        here = asking[start : start + block]
        left = search.queries[here].astype(np.float64)
        similarity = (left @ right.T - search.half_squares).astype(np.float32)  # (b, N)
        if search.own:
            similarity[np.arange(len(here)), here] = -np.inf
        yield slice(start, start + len(here)), similarity


def _best(similarity: Rows, width: int) -> Found:
    """Return the ``width`` best columns of each row, best first, ties by lower column."""
    count, columns = similarity.shape
    worst = np.partition(similarity, columns - width, axis=1)[:, columns - width]
    # All that reach the worst kept value: more than ``width`` where that value is tied.
    rows, near = np.nonzero(similarity >= worst[:, None])
    by_value = np.lexsort((near, -similarity[rows, near], rows))
    starts = np.searchsorted(rows, np.arange(count))
    column: Ids = near[by_value][starts[:, None] + np.arange(width)]
    value = np.take_along_axis(similarity, column, axis=1)
    tied = np.zeros(column.shape, bool)
    tied[:, 1:] = value[:, 1:] == value[:, :-1]
    return Found(column, tied)
