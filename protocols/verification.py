"""How well one threshold tells pairs of a class from pairs of two: reported, never selecting.

Every pair of different test images is a decision: accepted as one class where the images are near
enough. FAR is the share of pairs of two classes that are accepted, TAR that of pairs of one class.

* tar_at_far_F, for F = 1e-2, 1e-3, 1e-4: TAR at the farthest threshold whose FAR is F at most.
  Named only where F allows ten pairs or more: on fewer it rests on chance.
* opis, the operating-point-inconsistency score::

      (1 / T) * sum over classes i of the mean over thresholds d of (U_i(d) - mean of U(d))^2

  U_i(d) = 2 s t / (s + t), or 0 where both are 0, is the harmonic mean of class i's specificity s
  (the share of pairs with one image of class i that is not accepted) and sensitivity t (the share
  of pairs within class i that is). The mean of U(d) goes over the T classes that have a pair of
  their own. d are the middles of 100 equal parts of the distances from where the FAR of all pairs
  is 1e-2 to where it is 1e-1. 0 where one threshold serves every class equally well, 1/4 at most.
  Source: Zhang, Xu, Tang, Fang, Wu, Tighe and Xing, "Threshold-Consistent Margin Loss for
  Open-World Deep Metric Learning", ICLR 2024, arXiv:2307.04047, section 3; there the sum over d is
  an integral.

Where queries are searched in a gallery of its own, pairs are of a query and a gallery image, and
those of class i are the ones whose query is of class i.

Distances are Euclidean, between unit vectors where embeddings are compared by angle; else
embeddings are moved to their middle and halved or doubled until the longest is between 1/2 and 1.
They are rounded to multiples of 2^-20, so that every product is exact in float64, and
1 - distance^2 / 2 is cut to multiples of 2^-15. Of these numbers all counts are exact, on any
machine and device, in whatever order; a threshold is never finer than they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.metrics import checked

FARS = ("1e-2", "1e-3", "1e-4")
CALIBRATED = (1e-2, 1e-1)  # FAR at the ends of OPIS's thresholds
THRESHOLDS = 100
LEAST = 10  # pairs of two classes that a FAR must allow
HIGHEST_OPIS = 0.25  # the largest variance of fractions
_TILE = 2048  # rows and columns of a product made at once: 32 MB
_FEW = 1 << 18  # pairs whose products take the host less time than it would wait for a device
_FINE, _STEPS = 2.0**20, 1 << 15
_BINS = 2 * _STEPS + 1  # of 1 - distance^2 / 2, from -1 to 1

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Product = Callable[[Floats, Floats], Floats]


def names() -> tuple[str, ...]:
    """Return the names of all that may be reported."""
    return (*(f"tar_at_far_{far}" for far in FARS), "opis")


def verification(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    gallery: tuple[ArrayLike, ArrayLike] | None = None,
    normalize: bool = True,
    device: str = "cpu",
) -> dict[str, float]:
    """Return TAR at each FAR that there are pairs enough for, and OPIS, fractions in [0, 1].

    Nothing is returned where no class has a pair of its own, or no two classes have one.

    Args:
        embeddings: (Q, D) finite numbers; not changed.
        labels: (Q,) class of each row.
        gallery: (embeddings (N, D), labels (N,)); by default pairs are those of the rows.
        normalize: True compares by angle, False by Euclidean distance.
        device: where products are made, in torch's words; the result does not depend on it.

    Raises:
        InvalidInputError: shapes that do not fit, or non-finite numbers.
    """
    pairs = _pairs(embeddings, labels, gallery, normalize, device)
    positive = pairs.histogram_within()
    negative = pairs.histogram() - positive
    if not (positive.sum() and negative.sum()):
        return {}
    allowed = negative.sum() / (2 if pairs.own else 1)  # each of them was counted from both ends
    found = {}
    for far in FARS:
        if float(far) * allowed >= LEAST:
            accepted = positive[_threshold(negative, float(far)) :].sum()
            found[f"tar_at_far_{far}"] = float(accepted / positive.sum())
    if CALIBRATED[0] * allowed >= LEAST:
        near, far_off = (_threshold(negative, far) for far in CALIBRATED)
        found |= _opis(pairs, _between(near, far_off))
    return found


@dataclass(frozen=True)
class _Pairs:
    """Rows in the order of their classes, rounded so that their products are exact.

    Attributes:
        queries: (Q, D + 2) and
        items: (N, D + 2), whose product is in which bin a pair lies, see :func:`_sides`.
        query_labels, item_labels: their classes as numbers from 0, ascending.
        own: whether the items are the queries.
        product: makes (q, n) of (q, D + 2) and (n, D + 2).
    """

    queries: Floats
    items: Floats
    query_labels: Ids
    item_labels: Ids
    own: bool
    product: Product

    def places(self, rows: slice, columns: slice) -> Floats:
        """Return (r, c) each pair's 1 - distance^2 / 2, plus 1, in multiples of 2^-15."""
        few = (rows.stop - rows.start) * (columns.stop - columns.start) <= _FEW
        return (_on_host if few else self.product)(self.queries[rows], self.items[columns])

    def bins(self, rows: slice, columns: slice) -> Ids:
        """Return (r, c) which multiple each pair's is cut to."""
        return self.places(rows, columns).astype(np.int64)  # from -0.2 on: to 0

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """Yield parts of all pairs; where rows are the columns, of one half and the diagonal."""
        count, others = len(self.query_labels), len(self.item_labels)
        for top in range(0, count, _TILE):
            rows = slice(top, min(top + _TILE, count))
            for left in range(top if self.own else 0, others, _TILE):
                yield rows, slice(left, min(left + _TILE, others))

    def mirrored(self, rows: slice, columns: slice) -> bool:
        """Return whether a tile stands for its mirror image too."""
        return self.own and columns.start > rows.start

    def within(self) -> Iterator[tuple[int, Ids]]:
        """Yield each class with bins (n,) of the pairs within it, each from both ends."""
        starts = np.searchsorted(self.item_labels, np.arange(self.classes + 1))
        asked = np.searchsorted(self.query_labels, np.arange(self.classes + 1))
        for label in range(self.classes):
            columns = slice(int(starts[label]), int(starts[label + 1]))
            for top in range(int(asked[label]), int(asked[label + 1]), _TILE):
                rows = slice(top, min(top + _TILE, int(asked[label + 1])))
                found = self.bins(rows, columns)
                keep = np.ones(found.shape, bool)
                if self.own:
                    at = np.arange(rows.start, rows.stop)
                    keep[at - rows.start, at - columns.start] = False
                yield label, found[keep]

    @property
    def classes(self) -> int:
        """Return how many classes there are."""
        return int(max(self.query_labels[-1], self.item_labels[-1])) + 1

    def histogram(self) -> Floats:
        """Return how many pairs each bin has, each from both ends where rows are the columns."""
        found = np.zeros(_BINS)
        for rows, columns in self.tiles():
            counted = np.bincount(self.bins(rows, columns).ravel(), minlength=_BINS)
            found += counted * (2 if self.mirrored(rows, columns) else 1)
        if self.own:  # each image with itself
            found[_BINS - 1] -= len(self.query_labels)
        return found

    def histogram_within(self) -> Floats:
        """Return the same of pairs within a class."""
        found, waiting, count = np.zeros(_BINS), [np.zeros(0, np.int64)], 0
        for _, bins in self.within():  # a class has few pairs: they are counted many at once
            waiting.append(bins)
            count += len(bins)
            if count > _BINS:
                found += np.bincount(np.concatenate(waiting), minlength=_BINS)
                waiting, count = waiting[:1], 0
        return found + np.bincount(np.concatenate(waiting), minlength=_BINS)

    def by_class(self, level: Ids, levels: int) -> Floats:
        """Return (classes, levels) how many pairs of each class are at a level, by their bin.

        Args:
            level: (bins,) below ``levels``, ascending.
            levels: how many there are.
        """
        found = np.zeros((self.classes, levels))
        lowest = int(np.searchsorted(level, 1))  # few pairs lie there or nearer
        for rows, columns in self.tiles():
            places = self.places(rows, columns)
            row, column = np.nonzero(places >= lowest)
            at = level[places[row, column].astype(np.int64)]
            sides = [self.query_labels[rows][row]]
            if self.mirrored(rows, columns):
                sides.append(self.item_labels[columns][column])
            for labels in sides:
                some = np.bincount(labels * levels + at, minlength=found.size)
                found += some.reshape(found.shape)
        counts = np.bincount(self.query_labels, minlength=self.classes)
        if self.own and level[-1]:  # each image with itself
            found[:, level[-1]] -= counts
        others = len(self.item_labels) - self.own
        found[:, 0] = counts * others - found[:, 1:].sum(axis=1)
        return found


def _pairs(
    embeddings: ArrayLike,
    labels: ArrayLike,
    gallery: tuple[ArrayLike, ArrayLike] | None,
    normalize: bool,
    device: str,
) -> _Pairs:
    """Return the rows of both sides, scaled, rounded and sorted by class."""
    x, x_labels = checked(embeddings, labels, normalize)
    y, y_labels = (x, x_labels) if gallery is None else checked(*gallery, normalize)
    numbers = np.unique(np.concatenate([x_labels, y_labels]), return_inverse=True)[1]
    scale: float = 1.0
    middle: Any = 0.0
    if not normalize:
        both = np.concatenate([x, y]) if gallery is not None else x
        middle = (both.min(axis=0) / 2 + both.max(axis=0) / 2).astype(np.float64)
        longest = max(_longest(x, middle), _longest(y, middle))
        scale = 2.0 ** math.ceil(math.log2(longest)) if longest > 0 else 1.0

    def side(rows: NDArray[np.float32], of: Ids) -> tuple[Floats, Ids]:
        order = np.argsort(of, kind="stable")
        z = rows[order].astype(np.float64)
        z -= middle
        z /= scale
        return np.rint(z * _FINE) / _FINE, of[order]

    z, query_labels = side(x, numbers[: len(x)])
    w, item_labels = (z, query_labels) if gallery is None else side(y, numbers[len(x) :])
    product = _on_host if device == "cpu" else _on(device)
    return _Pairs(*_sides(z, w), query_labels, item_labels, gallery is None, product)


def _sides(z: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Return (Q, D + 2) and (N, D + 2), whose product is 2^15 (z.w - |z|^2 / 2 - |w|^2 / 2 + 2)."""
    z_half, w_half = ((x**2).sum(axis=1, keepdims=True) / 2 for x in (z, w))
    left = np.concatenate([z, 2 - z_half, np.full_like(z_half, -1.0)], axis=1) * _STEPS
    return left, np.concatenate([w, np.ones_like(w_half), w_half], axis=1)


def _longest(rows: NDArray[np.float32], middle: Any) -> float:
    """Return the largest distance of a row from ``middle``, a few rows at a time."""
    parts = (rows[at : at + _TILE] - middle for at in range(0, len(rows), _TILE))
    return max(float(np.linalg.norm(part, axis=1).max()) for part in parts)


def _on_host(left: Floats, right: Floats) -> Floats:
    return left @ right.T


def _on(device: str) -> Product:
    """Return what makes products on a device."""
    import torch

    def product(left: Floats, right: Floats) -> Floats:
        there = [torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in (left, right)]
        found: Floats = torch.matmul(there[0], there[1].T).cpu().numpy()
        return found

    return product


def _threshold(negative: Floats, far: float) -> int:
    """Return the lowest bin from which on there is a share of ``far`` at most of the pairs."""
    accepted = np.cumsum(negative[::-1])[::-1]
    return int(np.count_nonzero(accepted > far * negative.sum()))


def _between(near: int, far_off: int) -> Ids:
    """Return the bins (THRESHOLDS,), ascending, from which on pairs are accepted.

    They are the first bins that lie nearer than the middles of equal parts of the distances
    between two thresholds.
    """
    ends = [np.sqrt(max(0.0, 2 - 2 * (bin_ / _STEPS - 1))) for bin_ in (far_off, near)]
    shares = (np.arange(THRESHOLDS) + 0.5) / THRESHOLDS
    distances = ends[0] + (ends[1] - ends[0]) * shares
    first: Ids = np.ceil((2 - distances**2 / 2) * _STEPS).astype(np.int64)
    return np.clip(first, far_off, near)


def _opis(pairs: _Pairs, thresholds: Ids) -> dict[str, float]:
    """Return OPIS over ``thresholds``; nothing where it is of one class."""
    level: Ids = np.searchsorted(thresholds, np.arange(_BINS), side="right").astype(np.int64)
    levels = len(thresholds) + 1
    positive = np.zeros((pairs.classes, levels))
    for label, bins in pairs.within():
        positive[label] += np.bincount(level[bins], minlength=levels)
    negative = pairs.by_class(level, levels) - positive
    kept = (positive.sum(1) > 0) & (negative.sum(1) > 0)
    if np.count_nonzero(kept) < 2:
        return {}
    accepted = [np.cumsum(side[kept, ::-1], axis=1)[:, ::-1] for side in (positive, negative)]
    sensitivity, far = (side[:, 1:] / side[:, :1] for side in accepted)
    both = sensitivity + (1 - far)
    utility = 2 * sensitivity * (1 - far) / np.where(both > 0, both, 1.0)
    return {"opis": float(((utility - utility.mean(axis=0)) ** 2).mean())}
