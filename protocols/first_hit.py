"""How far down a query's first image of its own class stands, for recall@k with a large k.

A list of the 1,000 nearest would answer recall@1000 and cost more than everything else. The
rank of one known item costs less: it is one more than the number of items nearer to the query,
so similarities are compared with one number each and nothing is sorted. Those within the error
of float32 are compared again in float64, so that the rank is that of the written order of
:mod:`protocols.settle`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols import nearest_device, settle
from protocols.nearest import searched
from protocols.settle import Ids, Rows, Search

_ROWS, _COLUMNS = 1024, 4096  # of a product computed at once
_OPEN = 1 << 22  # pairs that float64 shall compare, of a block of queries

# A block of queries, how many items are surely nearer (b,), open (row, column) if not too many.
Counted = tuple[slice, Ids, tuple[Ids, Ids] | None]


class Relevant(NamedTuple):
    """Queries and the items of their class, by ascending query; each has at least one."""

    query: Ids
    column: Ids


@dataclass(frozen=True)
class Groups:
    """Which items are of a query's class.

    Attributes:
        relevant: (Q,) how many, the query's own not counted.
        place: (Q,) where the query's class is in ``starts``.
        starts: (C,) where the class begins in ``by_class``.
        by_class: (N,) items by class, then by index.
        own: the queries are the items.
    """

    relevant: Ids
    place: Ids
    starts: Ids
    by_class: Ids
    own: bool

    @classmethod
    def of(cls, queries: Ids, items: Ids, own: bool) -> Groups:
        """Return the groups of query labels (Q,) and item labels (N,)."""
        classes, codes, counts = np.unique(items, return_inverse=True, return_counts=True)
        place = np.searchsorted(classes, queries).clip(max=len(classes) - 1)
        relevant = np.where(classes[place] == queries, counts[place], 0) - own
        by_class = np.argsort(codes, kind="stable")
        return cls(relevant, place, np.cumsum(counts) - counts, by_class, own)

    def pairs(self, queries: Ids) -> Relevant:
        """Return the pairs of some queries, each with an item of its class at least."""
        sizes = self.relevant[queries] + self.own
        query = np.repeat(queries, sizes)
        within = np.arange(len(query)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        column = self.by_class[self.starts[self.place[query]] + within]
        others = column != query if self.own else np.ones(len(query), bool)
        return Relevant(query[others], column[others])


def first_hits(
    queries: Rows,
    items: Rows,
    half_squares: NDArray[np.float64],
    relevant: Relevant,
    depth: int,
    device: str = "cpu",
    *,
    own: bool | None = None,
) -> tuple[Ids, Ids]:
    """Return queries (q,) and the ranks (q,) of their first relevant item, 1 for the nearest.

    Args:
        queries: (Q, D).
        items: (N, D).
        half_squares: (N,) as in :func:`protocols.nearest.nearest`.
        relevant: the pairs of the queries asked about; a query's own item is not among them.
        depth: a rank beyond it is returned as 0.
        device: where float32 products are made; the ranks do not depend on it.
        own: as in :func:`protocols.nearest.nearest`.
    """
    own = queries is items if own is None else own
    search, bounded = searched(queries, items, half_squares, own)
    asking, starts = np.unique(relevant.query, return_index=True)
    if not bounded:
        return asking, _in_full(search, asking, relevant, depth)
    key = settle.similarities(search, *relevant)
    best = np.lexsort((relevant.column, -key, relevant.query))[starts]
    value, column = key[best], relevant.column[best]
    # The key is exact but for its rounding: one product's error, half of two products' margin.
    error = search.margin[asking] / 2
    low, high = np.nextafter(value - error, -np.inf), np.nextafter(value + error, np.inf)
    if device == "cpu":
        counted = _count(search, asking, low, high)
    else:
        held = nearest_device.hold(queries, items, half_squares, device, own)
        counted = nearest_device.count(held, asking, low, high, _OPEN)
    rank = np.zeros(len(asking), np.int64)
    for rows, nearer, pairs in counted:
        here = asking[rows]
        if pairs is None:  # collapsed: float32 says nothing
            inside = (relevant.query >= here[0]) & (relevant.query <= here[-1])
            some = Relevant(relevant.query[inside], relevant.column[inside])
            rank[rows] = _in_full(search, here, some, depth)
            continue
        row, other = pairs
        maybe = nearer[row] < depth
        row, other = row[maybe], other[maybe]
        found, wanted = settle.similarities(search, here[row], other), value[rows][row]
        ahead = (found > wanted) | ((found == wanted) & (other < column[rows][row]))
        rank[rows] = 1 + nearer + np.bincount(row[ahead], minlength=len(here))
    rank[rank > depth] = 0
    return asking, rank


def _count(search: Search, asking: Ids, low: Rows, high: Rows) -> Iterator[Counted]:
    """Yield how many items are surely nearer than ``high``, and which lie in between."""
    shift = search.shift
    buffer = np.empty(_ROWS * _COLUMNS, np.float32)
    for start in range(0, len(asking), _ROWS):
        rows = slice(start, min(start + _ROWS, len(asking)))
        here = asking[rows]
        left, floor, ceiling = search.queries[here], low[rows, None], high[rows, None]
        nearer, parts, open_ = np.zeros(len(here), np.int64), [], 0
        for first in range(0, len(search.items), _COLUMNS):
            right = search.items[first : first + _COLUMNS]
            out = buffer[: len(here) * len(right)].reshape(len(here), len(right))
            dots = np.matmul(left, right.T, out=out)
            if shift is not None:
                dots -= shift[first : first + len(right)]
            if search.own:
                mine = np.flatnonzero((here >= first) & (here < first + len(right)))
                dots[mine, here[mine] - first] = -np.inf
            above = dots > ceiling
            nearer += np.count_nonzero(above, axis=1)
            row, column = np.nonzero((dots >= floor) ^ above)
            parts.append((row, first + column))
            open_ += len(row)
            if open_ > _OPEN:
                break
        row, column = (np.concatenate(part) for part in zip(*parts, strict=True))
        yield rows, nearer, (row, column) if open_ <= _OPEN else None


def _in_full(search: Search, asking: Ids, relevant: Relevant, depth: int) -> Ids:
    """Return the ranks (q,) of some queries' first relevant items from all similarities."""
    ranks = np.zeros(len(asking), np.int64)
    columns = np.arange(len(search.items))
    ends = np.searchsorted(relevant.query, asking), np.searchsorted(relevant.query, asking, "right")
    for rows, similarity in settle.in_full(search, asking):
        for place in range(rows.start, rows.stop):
            own = relevant.column[ends[0][place] : ends[1][place]]
            values = similarity[place - rows.start]
            best = values[own].max()
            column = own[values[own] == best].min()
            ahead = (values > best) | ((values == best) & (columns < column))
            ranks[place] = 1 + np.count_nonzero(ahead)
    ranks[ranks > depth] = 0
    return ranks
