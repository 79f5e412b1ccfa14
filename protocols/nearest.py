"""The nearest gallery rows of every query, exact, for large galleries.

The order is that of similarities summed in float64 and rounded to float32, ties to the lower
index. Most of the work is done in float32 all the same: a bound on its error says which pairs
could be among the nearest, and only where it leaves the order open is float64 asked.

1. The product is computed tile by tile and not kept. Of every group of gallery rows only the
   largest similarity stays. If the queries are the gallery, half of the tiles are enough: a
   tile serves its rows and its columns.
2. The ``width`` th largest of a query's group maxima bounds its ``width`` th neighbour from
   below, so groups that stay under it, less the error, are out. The few others are computed
   again, group by group, for all queries that want them.
3. What reached the bound is sorted. Neighbours whose float32 similarities are closer than their
   error are ordered by float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Found = NDArray[np.int64]

SIDE = 64  # groups of a tile
_ROWS, _COLUMNS = 1024, 4096  # of a product computed at once: 16 MB stay in the cache
_MAXIMA = 1 << 26  # group maxima held at once: 256 MB
_FOUND = 1 << 20  # neighbours looked for at once
_ALL = 1 << 24  # float64 similarities held at once: 128 MB
_ON_DEVICE = 1 << 30  # float32 similarities held at once on another device: 4 GB
_UNIT = 2.0**-24  # relative error of one float32 operation
_LARGEST = 1e37  # beyond it float32 products may overflow


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        queries: (Q, D).
        items: (N, D).
        half_squares: (N,) what is taken off q . x: |x|^2 / 2 to rank by distance, 0 by angle.
        own: the queries are the items, and none is its own neighbour.
        tile: gallery rows that share SIDE groups: row c is in group c mod SIDE of its tile.
        margin: (Q,) how far two float32 similarities may be apart in the wrong order.
    """

    queries: Rows
    items: Rows
    half_squares: NDArray[np.float64]
    own: bool
    tile: int
    margin: Rows

    @property
    def groups(self) -> int:
        """Return the number of groups."""
        return -(-len(self.items) // self.tile) * SIDE

    @property
    def shift(self) -> Rows | None:
        """Return the half squares in float32, None where all are 0."""
        return self.half_squares.astype(np.float32) if self.half_squares.any() else None


class Pairs(NamedTuple):
    """Queries and items that may be neighbours, and their float32 similarities."""

    row: Found
    column: Found
    value: Rows


def nearest(
    queries: Rows,
    items: Rows,
    half_squares: NDArray[np.float64],
    width: int,
    device: str = "cpu",
) -> Found:
    """Return the ``width`` nearest items (Q, width) of each query, nearest first.

    The similarity is q . x - half_squares. If ``queries is items`` no row is its own neighbour.

    Args:
        queries: (Q, D).
        items: (N, D).
        half_squares: (N,) |x|^2 / 2 to rank by distance, 0 to rank unit vectors by angle.
        width: how many to find; fewer than there are items.
        device: where float32 products are made; the order does not depend on it.
    """
    own, size = queries is items, _sizes(queries, items, half_squares)
    margin = (2.02 * (items.shape[1] + 6) * _UNIT * size).astype(np.float32)
    tile = _tile(len(items), width)
    search = Search(queries, items, half_squares, own, tile, margin)
    if device != "cpu" and size.max() < _LARGEST:
        return _on_device(search, width, device)
    if search.groups - SIDE < width or not size.max() < _LARGEST:
        return _exact(search, np.arange(len(queries)), width)
    # The last tile may be all but empty, and empty groups bound nothing: hence - SIDE.
    while own and search.groups * len(items) > _MAXIMA and search.groups // 2 - SIDE > width:
        search = replace(search, tile=2 * search.tile)
    found = np.empty((len(queries), width), np.int64)
    if own and search.groups * len(items) <= _MAXIMA:
        _settle(search, _symmetric(search), slice(0, len(items)), found)
        return found
    block = max(_ROWS, _MAXIMA // search.groups // _ROWS * _ROWS)
    for start in range(0, len(queries), block):
        rows = slice(start, min(start + block, len(queries)))
        _settle(search, _one_sided(search, rows), rows, found)
    return found


def _tile(count: int, width: int) -> int:
    """Return the largest tile that makes many more groups than there are neighbours to find."""
    tile = _COLUMNS
    while tile > _ROWS and -(-count // tile) * SIDE < 8 * width:
        tile //= 2
    return tile


def _sizes(queries: Rows, items: Rows, half_squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (Q,) what float32 errors are relative to.

    A sum of D products is off by at most about D units of the product of the lengths (Higham,
    Accuracy and Stability of Numerical Algorithms, section 3.1). Two similarities in the wrong
    order are off by two such errors, and rounding float64 sums to float32 adds a few units.
    """
    lengths = [np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64)) for x in (queries, items)]
    sizes: NDArray[np.float64] = lengths[0] * lengths[1].max() + np.abs(half_squares).max()
    return sizes


def _symmetric(search: Search) -> Rows:
    """Return (N, groups) maxima of a set searched against itself, from half of the product."""
    items, shift = search.items, search.shift
    maxima = np.full((len(items), search.groups), -np.inf, np.float32)
    chunk = min(search.tile, _COLUMNS)
    buffer = np.empty(_ROWS * chunk, np.float32)
    for top in range(0, len(items), _ROWS):
        rows = slice(top, min(top + _ROWS, len(items)))
        for left in range(top // chunk * chunk, len(items), chunk):
            columns = slice(left, min(left + chunk, len(items)))
            dots = _product(items[rows], items[columns], buffer)
            if left > top:  # right of the diagonal: no other tile computes the mirror image
                mirrored = dots if shift is None else dots - shift[rows, None]
                _raise_columns(search, maxima[columns], mirrored, rows)
            if shift is not None:
                dots -= shift[columns]
            _hide_own(dots, rows, columns)
            _raise_rows(search, maxima[rows], dots, columns)
    return maxima


def _one_sided(search: Search, block: slice) -> Rows:
    """Return (b, groups) maxima of a block of queries."""
    shift, items = search.shift, search.items
    maxima = np.full((block.stop - block.start, search.groups), -np.inf, np.float32)
    chunk = min(search.tile, _COLUMNS)
    buffer = np.empty(_ROWS * chunk, np.float32)
    for top in range(block.start, block.stop, _ROWS):
        rows = slice(top, min(top + _ROWS, block.stop))
        held = maxima[top - block.start :][: rows.stop - rows.start]
        for left in range(0, len(items), chunk):
            columns = slice(left, min(left + chunk, len(items)))
            dots = _product(search.queries[rows], items[columns], buffer)
            if shift is not None:
                dots -= shift[columns]
            if search.own:
                _hide_own(dots, rows, columns)
            _raise_rows(search, held, dots, columns)
    return maxima


def _product(left: Rows, right: Rows, buffer: Rows) -> Rows:
    out = buffer[: len(left) * len(right)].reshape(len(left), len(right))
    return np.matmul(left, right.T, out=out)


def _hide_own(dots: Rows, rows: slice, columns: slice) -> None:
    """Set rows' similarities to themselves to minus infinity, where these columns hold them."""
    own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
    dots[own - rows.start, own - columns.start] = -np.inf


def _raise_rows(search: Search, maxima: Rows, dots: Rows, columns: slice) -> None:
    """Let the maxima (R, groups) of rows know their similarities (R, C) to some columns."""
    first, full = columns.start // search.tile * SIDE, dots.shape[1] // SIDE * SIDE
    if full:
        held = maxima[:, first : first + SIDE]
        np.maximum(held, dots[:, :full].reshape(len(dots), -1, SIDE).max(1), out=held)
    held = maxima[:, first : first + dots.shape[1] - full]
    np.maximum(held, dots[:, full:], out=held)


def _raise_columns(search: Search, maxima: Rows, dots: Rows, rows: slice) -> None:
    """Let the maxima (C, groups) of columns know their similarities (R, C) to some rows."""
    first, full = rows.start // search.tile * SIDE, len(dots) // SIDE * SIDE
    if full:
        held = maxima[:, first : first + SIDE]
        np.maximum(held, dots[:full].reshape(-1, SIDE, dots.shape[1]).max(0).T, out=held)
    held = maxima[:, first : first + len(dots) - full]
    np.maximum(held, dots[full:].T, out=held)


def _settle(search: Search, maxima: Rows, block: slice, found: Found) -> None:
    """Fill ``found`` for a block of queries from their group maxima (b, groups)."""
    width = found.shape[1]
    step = max(SIDE, min(4 * _COLUMNS, _FOUND // width))
    for start in range(block.start, block.stop, step):
        rows = slice(start, min(start + step, block.stop))
        held = maxima[start - block.start :][: rows.stop - start]
        bound = np.partition(held, -width, axis=1)[:, -width] - search.margin[rows]
        pairs = _pairs(search, rows, held >= bound[:, None], bound, width)
        asking = np.arange(rows.start, rows.stop)
        # Too many where embeddings have collapsed: then float32 says nothing.
        found[rows] = (
            _exact(search, asking, width) if pairs is None else _order(search, asking, pairs, width)
        )


def _pairs(
    search: Search, rows: slice, wanted: NDArray[np.bool_], bound: Rows, width: int
) -> Pairs | None:
    """Return the pairs whose similarity reaches the query's bound; None if they are too many."""
    group, row = np.nonzero(wanted.T)
    ends = np.searchsorted(group, np.arange(search.groups + 1))
    shift, left, parts = search.shift, 4 * width * len(bound), []
    for number in np.flatnonzero(np.diff(ends)):
        asking = row[ends[number] : ends[number + 1]]
        tile, place = divmod(int(number), SIDE)
        end = min((tile + 1) * search.tile, len(search.items))
        members = slice(tile * search.tile + place, end, SIDE)
        dots = search.queries[rows][asking] @ search.items[members].T
        if shift is not None:
            dots -= shift[members]
        if search.own:
            at, off = np.divmod(asking + rows.start - members.start, SIDE)
            mine = np.flatnonzero((off == 0) & (at >= 0) & (at < dots.shape[1]))
            dots[mine, at[mine]] = -np.inf
        hit, column = np.nonzero(dots >= bound[asking, None])
        left -= len(hit)
        if left < 0:
            return None
        parts.append(Pairs(asking[hit], members.start + SIDE * column, dots[hit, column]))
    return Pairs(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _order(search: Search, asking: Found, pairs: Pairs, width: int) -> Found:
    """Return the ``width`` best columns of each query ``asking``, best first, ties by column.

    ``row`` of a pair is a position in ``asking``.
    """
    order = np.lexsort((-pairs.value, pairs.row))
    row, column, value = pairs.row[order], pairs.column[order], pairs.value[order]
    apart = value[:-1] - value[1:] > search.margin[asking][row[1:]]
    starts = np.concatenate([[True], apart | (row[1:] != row[:-1])])
    run = np.cumsum(starts)  # within a run of close similarities float32 does not decide
    open_ = np.flatnonzero(np.bincount(run)[run] > 1)
    key = value.copy()
    key[open_] = _similarities(search, asking[row[open_]], column[open_])
    order = np.lexsort((column, -key, run))
    first = np.searchsorted(row, np.arange(len(asking)))
    found: Found = column[order][first[:, None] + np.arange(width)]
    return found


def _similarities(search: Search, row: Found, column: Found) -> Rows:
    """Return the similarities of pairs, summed in float64 in an order that is always the same."""
    found = np.empty(len(row), np.float32)
    step = max(1, _ALL // 8 // search.items.shape[1])
    for start in range(0, len(row), step):
        some = slice(start, start + step)
        left = search.queries[row[some]].astype(np.float64)
        left *= search.items[column[some]]
        found[some] = left.sum(axis=1) - search.half_squares[column[some]]
    return found


def _on_device(search: Search, width: int, device: str) -> Found:
    """Return the nearest, candidates found by torch: all similarities of a block, and the best.

    A few more than ``width`` are kept of each query.
    """
    import torch  # here: tables read the metrics' names without it

    own, count = search.own, len(search.items)
    keep = min(width + SIDE // 2, count - own)
    items = torch.from_numpy(search.items).to(device)
    queries = items if own else torch.from_numpy(search.queries).to(device)
    shift = torch.from_numpy(search.half_squares).float().to(device)
    found = np.empty((len(search.queries), width), np.int64)
    block = max(1, _ON_DEVICE // count)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # the margin is that of whole float32 products
    try:
        for start in range(0, len(found), block):
            rows = slice(start, min(start + block, len(found)))
            dots = queries[rows] @ items.T - shift
            if own:
                here = torch.arange(rows.stop - start, device=device)
                dots[here, here + start] = -torch.inf
            best = dots.topk(keep)
            value, column = best.values.cpu().numpy(), best.indices.cpu().numpy()
            found[rows] = _from_kept(search, np.arange(start, rows.stop), value, column, width)
    finally:
        torch.set_float32_matmul_precision(precision)
    return found


def _from_kept(search: Search, asking: Found, value: Rows, column: Found, width: int) -> Found:
    """Return the nearest from the columns kept (b, keep) of each query, by falling value.

    Most queries' similarities are further apart than their error: nothing is left to decide.
    Where even the last one kept is within the error of the ``width`` th, float64 decides in full.
    """
    found, margin = column[:, :width].copy(), search.margin[asking]
    close = -np.diff(value[:, : width + 1], axis=1) <= margin[:, None]
    some = np.flatnonzero(close.any(axis=1))
    keep = value.shape[1]
    row = np.repeat(np.arange(len(some)), keep)
    pairs = Pairs(row, column[some].reshape(-1), value[some].reshape(-1))
    if len(some):
        found[some] = _order(search, asking[some], pairs, width)
    if keep < len(search.items) - search.own:
        tied = np.flatnonzero(value[:, -1] >= value[:, width - 1] - margin)
        found[tied] = _exact(search, asking[tied], width)
    return found


def _exact(search: Search, asking: Found, width: int) -> Found:
    """Return the nearest of some queries from all similarities in float64."""
    # Sums in float64, ranks in float32: BLAS adds in an order that depends on the position, and
    # float32 sums of exact duplicates would differ in the last bit, which breaks the tie rule.
    found = np.empty((len(asking), width), np.int64)
    right = search.items.astype(np.float64) if len(asking) else search.items
    block = max(1, _ALL // len(right))
    for start in range(0, len(asking), block):
        here = asking[start : start + block]
        left = search.queries[here].astype(np.float64)
        similarity = (left @ right.T - search.half_squares).astype(np.float32)  # (b, N)
        if search.own:
            similarity[np.arange(len(here)), here] = -np.inf
        found[start : start + block] = _best(similarity, width)
    return found


def _best(similarity: NDArray[np.float32], width: int) -> NDArray[np.int64]:
    """Return the ``width`` best columns of each row, best first, ties by lower column."""
    count, columns = similarity.shape
    worst = np.partition(similarity, columns - width, axis=1)[:, columns - width]
    # All that reach the worst kept value: more than ``width`` where that value is tied.
    rows, near = np.nonzero(similarity >= worst[:, None])
    order = np.lexsort((near, -similarity[rows, near], rows))
    starts = np.searchsorted(rows, np.arange(count))
    nearest: NDArray[np.int64] = near[order][starts[:, None] + np.arange(width)]
    return nearest
