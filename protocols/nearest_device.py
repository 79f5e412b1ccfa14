"""The search of :mod:`protocols.nearest` with its float32 products on a device of torch's.

All similarities of a block of queries are made at once and a few more than the nearest are kept.
Those of them that are too close for float32 are added up there in float64, in the order that the
host adds in, and sorted. The host waits for the device once for many blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protocols import settle
from protocols.settle import Found, Ids, Rows, Search

if TYPE_CHECKING:  # tables read the metrics' names without torch
    from torch import Tensor

_HELD = 1 << 28  # float32 similarities held at once: 1 GB
_KEPT = 1 << 23  # neighbours kept on the device at once: 100 MB, and as much as five times to sort
_SUMMED = 1 << 25  # float64 products held at once: 256 MB
_SPARE = 32  # neighbours kept of each query beyond those asked for, at least
_ALL_KEPT = 1 << 22  # so many are kept in any case: of a small set all, so that none is in doubt
_LANES, _RUN = 8, 128  # numbers that numpy adds side by side, and in one go


@dataclass(frozen=True)
class Held:
    """A search's rows on the device.

    Attributes:
        queries: (Q, D) float32.
        items: (N, D) float32.
        half_squares: (N,) float64 what is taken off the products, None where all of it is 0.
        own: query n stands for item n and is not its own neighbour.
    """

    queries: Tensor
    items: Tensor
    half_squares: Tensor | None
    own: bool

    def lengths(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the Euclidean lengths of queries (Q,) and items (N,), summed in float64."""
        import torch

        def lengths(rows: Tensor) -> NDArray[np.float64]:
            found: NDArray[np.float64] = (
                torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).cpu().numpy()
            )
            return found

        items = lengths(self.items)
        return (items if self.queries is self.items else lengths(self.queries)), items

    def products(self, rows: Ids | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks of the queries, or of those ``rows``, and their similarities (b, N).

        The tensor is overwritten by the next block.
        """
        import torch

        device = self.items.device
        asked, ids = self.queries, torch.arange(len(self.queries), device=device)
        if rows is not None:
            ids = torch.from_numpy(rows).to(device)
            asked = asked[ids]
        block = max(1, min(len(asked), _HELD // len(self.items)))
        buffer = self.items.new_empty((block, len(self.items)))
        place = torch.arange(block, device=device)
        shift = None if self.half_squares is None else self.half_squares.float()
        for start in range(0, len(asked), block):
            some = slice(start, min(start + block, len(asked)))
            dots = torch.matmul(asked[some], self.items.T, out=buffer[: some.stop - start])
            if shift is not None:
                dots -= shift
            if self.own:
                dots[place[: len(dots)], ids[some]] = -torch.inf
            yield some, dots

    def similarities(self, row: Tensor, column: Tensor) -> Tensor:
        """Return the similarities (P,) float32 of pairs, as :func:`protocols.settle.similarities`.

        Args:
            row: (P,) the query of each pair.
            column: (P,) its item.
        """
        import torch

        found, step = [], max(1, _SUMMED // self.items.shape[1])
        for start in range(0, len(row), step):
            some = slice(start, start + step)
            sums = row_sums(self.queries[row[some]].double() * self.items[column[some]])
            if self.half_squares is not None:
                sums -= self.half_squares[column[some]]
            found.append(sums.float())
        return torch.cat(found)


def hold(
    queries: Rows, items: Rows, half_squares: NDArray[np.float64], device: str, own: bool
) -> Held:
    """Return the rows on the device."""
    import torch

    there = torch.from_numpy(items).to(device)
    asked = there if queries is items else torch.from_numpy(queries).to(device)
    half = torch.from_numpy(half_squares).to(device) if half_squares.any() else None
    return Held(asked, there, half, own)


@contextmanager
def whole_float32() -> Iterator[None]:
    """Let products of float32 use all of its bits, as the margin of a search supposes.

    Only these settings are read and set: torch's older calls refuse to answer once they are.
    """
    import torch

    places: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    )
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


def row_sums(numbers: Tensor) -> Tensor:
    """Return the sums (P,) of rows (P, n) float64, the bits that numpy gives: added in its order.

    Up to 128 numbers are added eight side by side, the eight sums in pairs, and what is left over
    one by one; more are cut in two. Source: ``pairwise_sum`` of numpy's core.
    """
    count = numbers.shape[1]
    if count > _RUN:
        half = count // 2 - count // 2 % _LANES
        return row_sums(numbers[:, :half]) + row_sums(numbers[:, half:])
    whole = count - count % _LANES
    sums = numbers.new_zeros(len(numbers))
    if whole:
        lanes = numbers[:, :_LANES].clone()
        for start in range(_LANES, whole, _LANES):
            lanes += numbers[:, start : start + _LANES]
        for _ in range(3):
            lanes = lanes[:, ::2] + lanes[:, 1::2]
        sums = lanes[:, 0]
    for place in range(whole, count):
        sums = sums + numbers[:, place]
    return sums


def nearest(search: Search, held: Held, width: int) -> Found:
    """Return the ``width`` nearest items of each query, nearest first."""
    import torch

    others = len(search.items) - search.own
    keep = min(max(width + _SPARE, _ALL_KEPT // len(search.queries)), others)
    found = Found.empty(len(search.queries), width)
    margin = torch.from_numpy(search.margin).to(held.items.device)
    with whole_float32():
        for rows, value, column in _kept(held, keep):
            arranged, tied = _arranged(held, rows.start, value, column, margin[rows, None], width)
            found.column[rows] = arranged.int().cpu().numpy()
            found.tied[rows] = tied.cpu().numpy()
            if keep < others:  # even the last one kept is within the error of the width-th
                doubtful = value[:, -1] >= value[:, width - 1] - margin[rows]
                asking = rows.start + doubtful.nonzero()[:, 0].cpu().numpy()
                found.put(asking, settle.exact(search, asking, width))
    return found


def _kept(held: Held, keep: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield many queries at a time, the ``keep`` largest similarities (b, keep) and their items.

    Nothing here waits for the device.
    """
    import torch

    start, values, columns = 0, [], []
    for rows, dots in held.products():
        best = dots.topk(keep)
        values.append(best.values)
        columns.append(best.indices)
        if (rows.stop - start) * keep >= _KEPT or rows.stop == len(held.queries):
            kept = torch.cat(values), torch.cat(columns)
            values.clear()
            columns.clear()
            yield slice(start, rows.stop), *kept
            start = rows.stop


def _arranged(
    held: Held, first: int, value: Tensor, column: Tensor, margin: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Return the ``width`` nearest (b, width) in the written order, and which tie with the last.

    Only runs of close similarities that begin among them change their order.

    Args:
        held: what is searched.
        first: number of the first of the queries.
        value: (b, keep) similarities, falling.
        column: (b, keep) their items.
        margin: (b, 1) how far two similarities may be apart in the wrong order.
        width: how many are asked for.
    """
    import torch

    close = value[:, :-1] - value[:, 1:] <= margin  # to the next one
    no = close.new_zeros((len(close), 1))
    after, before = torch.cat([no, close], 1), torch.cat([close, no], 1)
    place = torch.arange(value.shape[1], device=value.device)
    begin = torch.where(after, 0, place).cummax(1).values  # where each one's run begins
    row, at = ((begin < width) & (after | before)).nonzero().unbind(1)  # by row, then by place
    arranged = column[:, :width].clone()
    tied = torch.zeros_like(arranged, dtype=torch.bool)
    if not len(row):
        return arranged, tied
    run, item = row * value.shape[1] + begin[row, at], column[row, at]
    key = held.similarities(row + first, item)
    # by run, then falling similarity, then index: sorted by the last of these first
    order = item.argsort(stable=True)
    order = order[key[order].argsort(stable=True, descending=True)]
    order = order[run[order].argsort(stable=True)]
    item, key = item[order], key[order]  # runs stand where they stood
    tie = torch.cat([no[:1, 0], (key[1:] == key[:-1]) & (run[1:] == run[:-1])])
    inside = at < width
    arranged[row[inside], at[inside]] = item[inside]
    tied[row[inside], at[inside]] = tie[inside]
    return arranged, tied


def count(
    held: Held, asking: Ids, low: Rows, high: Rows, most: int
) -> Iterator[tuple[slice, Ids, tuple[Ids, Ids] | None]]:
    """Yield blocks of ``asking``, how many items are surely nearer (b,), and the open pairs.

    Open pairs are (row, column), a row being a position in the block; None if there are more
    than ``most``.

    Args:
        held: the rows on the device.
        asking: (q,) which queries.
        low: (q,) an item whose similarity is under it is not nearer.
        high: (q,) an item whose similarity is above it is nearer.
        most: open pairs of a block that are worth bringing back.
    """
    import torch

    floor, ceiling = (torch.from_numpy(x).to(held.items.device) for x in (low, high))
    with whole_float32():
        for rows, dots in held.products(asking):
            above = dots > ceiling[rows, None]
            open_ = (dots >= floor[rows, None]).logical_xor_(above)
            pairs = None
            if int(open_.sum()) <= most:
                row, column = open_.nonzero().cpu().numpy().T
                pairs = row, column
            yield rows, above.sum(dim=1).cpu().numpy(), pairs
