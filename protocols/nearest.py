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

import numpy as np
from numpy.typing import NDArray

from protocols import nearest_device, settle
from protocols.settle import Found, Pairs, Rows, Search

SIDE = 64  # groups of a tile
_ROWS, _COLUMNS = 1024, 4096  # of a product computed at once: 16 MB stay in the cache
_MAXIMA = 1 << 26  # group maxima held at once: 256 MB
_FOUND = 1 << 20  # neighbours looked for at once
_UNIT = 2.0**-24  # relative error of one float32 operation
_LARGEST = 1e37  # beyond it float32 products may overflow


@dataclass(frozen=True)
class Tiled(Search):
    """A search whose gallery is cut into groups.

    Attributes:
        tile: gallery rows that share SIDE groups: row c is in group c mod SIDE of its tile.
    """

    tile: int

    @property
    def groups(self) -> int:
        """Return the number of groups."""
        return -(-len(self.items) // self.tile) * SIDE


def nearest(
    queries: Rows,
    items: Rows,
    half_squares: NDArray[np.float64],
    width: int,
    device: str = "cpu",
    *,
    own: bool | None = None,
) -> Found:
    """Return the ``width`` nearest items (Q, width) of each query, nearest first.

    The similarity is q . x - half_squares.

    Args:
        queries: (Q, D).
        items: (N, D).
        half_squares: (N,) |x|^2 / 2 to rank by distance, 0 to rank unit vectors by angle.
        width: how many to find; fewer than there are items.
        device: where float32 products are made; the order does not depend on it.
        own: query n stands for item n and is not its own neighbour; then q_n . x_m is q_m . x_n.
            By default that is so if ``queries is items``.
    """
    own = queries is items if own is None else own
    if device != "cpu":
        held = nearest_device.hold(queries, items, half_squares, device, own)
        search, bounded = _search(queries, items, half_squares, held.lengths(), own)
        if bounded:
            return nearest_device.nearest(search, held, width)
    search, bounded = searched(queries, items, half_squares, own)
    tiled = Tiled(**vars(search), tile=_tile(len(items), width))
    if tiled.groups - SIDE < width or not bounded:
        return settle.exact(search, np.arange(len(queries)), width)
    return _by_tiles(tiled, width)


def searched(
    queries: Rows, items: Rows, half_squares: NDArray[np.float64], own: bool
) -> tuple[Search, bool]:
    """Return the search, and whether its float32 products are bounded: they cannot overflow."""
    squares = (np.einsum("ij,ij->i", x, x, dtype=np.float64) for x in (queries, items))
    left, right = map(np.sqrt, squares)
    return _search(queries, items, half_squares, (left, right), own)


def _search(
    queries: Rows,
    items: Rows,
    half_squares: NDArray[np.float64],
    lengths: tuple[NDArray[np.float64], NDArray[np.float64]],
    own: bool,
) -> tuple[Search, bool]:
    """Return the search of rows of these lengths, and whether its products are bounded.

    A sum of D products is off by at most about D units of the product of the lengths (Higham,
    Accuracy and Stability of Numerical Algorithms, section 3.1). Two similarities in the wrong
    order are off by two such errors, and rounding float64 sums to float32 adds a few units.
    """
    size = lengths[0] * lengths[1].max() + np.abs(half_squares).max()
    margin = (2.02 * (items.shape[1] + 6) * _UNIT * size).astype(np.float32)
    search = Search(queries, items, half_squares, own, margin)
    return search, bool(size.max() < _LARGEST)


def _by_tiles(search: Tiled, width: int) -> Found:
    """Return the nearest, from the maxima of groups."""
    own, count = search.own, len(search.items)
    # The last tile may be all but empty, and empty groups bound nothing: hence - SIDE.
    while own and search.groups * count > _MAXIMA and search.groups // 2 - SIDE > width:
        search = replace(search, tile=2 * search.tile)
    found = Found.empty(len(search.queries), width)
    if own and search.groups * count <= _MAXIMA:
        _settle(search, _symmetric(search), slice(0, count), found)
        return found
    block = max(_ROWS, _MAXIMA // search.groups // _ROWS * _ROWS)
    for start in range(0, len(search.queries), block):
        rows = slice(start, min(start + block, len(search.queries)))
        _settle(search, _one_sided(search, rows), rows, found)
    return found


def _tile(count: int, width: int) -> int:
    """Return the largest tile that makes many more groups than there are neighbours to find."""
    tile = _COLUMNS
    while tile > _ROWS and -(-count // tile) * SIDE < 8 * width:
        tile //= 2
    return tile


def _symmetric(search: Tiled) -> Rows:
    """Return (N, groups) maxima of a set searched against itself, from half of the product."""
    items, shift = search.items, search.shift
    maxima = np.full((len(items), search.groups), -np.inf, np.float32)
    chunk = min(search.tile, _COLUMNS)
    buffer = np.empty(_ROWS * chunk, np.float32)
    for top in range(0, len(items), _ROWS):
        rows = slice(top, min(top + _ROWS, len(items)))
        for left in range(top // chunk * chunk, len(items), chunk):
            columns = slice(left, min(left + chunk, len(items)))
            dots = _product(search.queries[rows], items[columns], buffer)
            if left > top:  # right of the diagonal: no other tile computes the mirror image
                mirrored = dots if shift is None else dots - shift[rows, None]
                _raise_columns(search, maxima[columns], mirrored, rows)
            if shift is not None:
                dots -= shift[columns]
            _hide_own(dots, rows, columns)
            _raise_rows(search, maxima[rows], dots, columns)
    return maxima


def _one_sided(search: Tiled, block: slice) -> Rows:
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


def _raise_rows(search: Tiled, maxima: Rows, dots: Rows, columns: slice) -> None:
    """Let the maxima (R, groups) of rows know their similarities (R, C) to some columns."""
    first, full = columns.start // search.tile * SIDE, dots.shape[1] // SIDE * SIDE
    if full:
        held = maxima[:, first : first + SIDE]
        np.maximum(held, dots[:, :full].reshape(len(dots), -1, SIDE).max(1), out=held)
    held = maxima[:, first : first + dots.shape[1] - full]
    np.maximum(held, dots[:, full:], out=held)


def _raise_columns(search: Tiled, maxima: Rows, dots: Rows, rows: slice) -> None:
    """Let the maxima (C, groups) of columns know their similarities (R, C) to some rows."""
    first, full = rows.start // search.tile * SIDE, len(dots) // SIDE * SIDE
    if full:
        held = maxima[:, first : first + SIDE]
        np.maximum(held, dots[:full].reshape(-1, SIDE, dots.shape[1]).max(0).T, out=held)
    held = maxima[:, first : first + len(dots) - full]
    np.maximum(held, dots[full:].T, out=held)


def _settle(search: Tiled, maxima: Rows, block: slice, found: Found) -> None:
    """Fill ``found`` for a block of queries from their group maxima (b, groups)."""
    width = found.column.shape[1]
    step = max(SIDE, min(4 * _COLUMNS, _FOUND // width))
    for start in range(block.start, block.stop, step):
        rows = slice(start, min(start + step, block.stop))
        held = maxima[start - block.start :][: rows.stop - start]
        bound = np.partition(held, -width, axis=1)[:, -width] - search.margin[rows]
        pairs = _pairs(search, rows, held >= bound[:, None], bound, width)
        asking = np.arange(rows.start, rows.stop)
        if pairs is None:  # too many where embeddings have collapsed: then float32 says nothing
            found.put(rows, settle.exact(search, asking, width))
        else:
            found.put(rows, settle.order(search, asking, pairs, width))


def _pairs(
    search: Tiled, rows: slice, wanted: NDArray[np.bool_], bound: Rows, width: int
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
