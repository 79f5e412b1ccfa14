"""Retrieval metrics with one written definition: Precision@1, R-Precision and MAP@R.

A query of a class with n images in the gallery (itself not counted) has R = n. With the
gallery sorted by similarity, the query itself removed by its index and ties broken by the
lower index:

* precision_at_1: the first neighbour has the query's class;
* r_precision: (same-class images among the first R) / R;
* map_at_r: (1/R) * sum over ranks i = 1..R of [hit at i] * (hits up to i) / i.

Averages go over queries. A query whose class has no other image (R = 0) is left out of the
averages, stays in the gallery, and is counted in ``excluded``.

Source: Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.errors import InvalidInputError
from protocols.nearest import nearest

METRICS = ("precision_at_1", "r_precision", "map_at_r")
_SCORED = 4096  # rows scaled or scored at once


@dataclass(frozen=True)
class PerQuery:
    """Metrics of each query, fractions in [0, 1]; NaN where the query is excluded.

    Attributes:
        precision_at_1: (Q,) float64.
        r_precision: (Q,) float64.
        map_at_r: (Q,) float64.
        neighbours: (Q, K) int64 gallery indices, nearest first.
    """

    precision_at_1: NDArray[np.float64]
    r_precision: NDArray[np.float64]
    map_at_r: NDArray[np.float64]
    neighbours: NDArray[np.int64]

    @property
    def excluded(self) -> int:
        """Return how many queries have no other image of their class."""
        return int(np.isnan(self.map_at_r).sum())

    def means(self) -> dict[str, float]:
        """Return each metric's mean over the queries that count; 0.0 if none does."""
        counted = ~np.isnan(self.map_at_r)
        if not counted.any():
            return dict.fromkeys(METRICS, 0.0)
        return {name: float(getattr(self, name)[counted].mean()) for name in METRICS}


def retrieval(
    embeddings: ArrayLike, labels: ArrayLike, *, normalize: bool = True
) -> dict[str, float]:
    """Return the three metrics of a set searched against itself, fractions in [0, 1].

    Args:
        embeddings: (N, D) finite numbers; not changed.
        labels: (N,) class of each row.
        normalize: True compares by angle, False by Euclidean distance.

    Raises:
        InvalidInputError: shapes that do not fit, fewer than two rows, non-finite numbers.
    """
    return per_query(embeddings, labels, normalize=normalize).means()


def per_query(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    gallery: tuple[ArrayLike, ArrayLike] | None = None,
    normalize: bool = True,
    neighbours: int = 10,
    device: str = "cpu",
) -> PerQuery:
    """Return the metrics of every query.

    Args:
        embeddings: (Q, D) queries; not changed.
        labels: (Q,) class of each query.
        gallery: (embeddings (N, D), labels (N,)) of a separate gallery. By default the
            queries are the gallery and each is removed from its own result by index.
        normalize: True compares by angle, False by Euclidean distance.
        neighbours: how many nearest gallery indices to return for each query, at most.
        device: where products are made, in torch's words; the result does not depend on it.

    Raises:
        InvalidInputError: shapes that do not fit, an empty set, non-finite numbers.
    """
    queries, query_labels = _checked(embeddings, labels, normalize)
    own = gallery is None
    items, item_labels = (
        (queries, query_labels) if gallery is None else _checked(*gallery, normalize)
    )
    classes, codes = np.unique(item_labels, return_inverse=True)
    relevant = _class_counts(classes, codes, query_labels) - own
    width = min(max(int(relevant.max(initial=1)), neighbours, 1), len(items) - own)
    if width < 1:
        raise InvalidInputError(f"{len(items)} embeddings: retrieval needs at least 2")
    # Euclidean order without a square root: 2 q.x - |x|^2 falls as the distance grows.
    half = np.zeros(len(items)) if normalize else (items.astype(np.float64) ** 2).sum(1) / 2
    near = nearest(queries, items, half, width, device)
    parts = []
    for start in range(0, len(queries), _SCORED):
        rows = slice(start, start + _SCORED)
        hits = item_labels[near[rows]] == query_labels[rows, None]
        parts.append(_scores(hits, relevant[rows]))
    p1, rp, ap = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return PerQuery(p1, rp, ap, near[:, :neighbours])


def concatenate(parts: list[NDArray[np.float32]], *, normalize: bool = True) -> NDArray[np.float32]:
    """Return (N, sum of D) rows joined from several models' (N, D) embeddings.

    With ``normalize`` each part is scaled to unit length first, so that every model counts
    the same (specs of the Reality Check: four 128-d outputs give 512).
    """
    joined: NDArray[np.float32] = np.concatenate(
        [unit(part) if normalize else part for part in parts], axis=1
    )
    return joined


def unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows scaled to unit Euclidean length; a zero row stays zero."""
    scaled = np.empty(embeddings.shape, np.float32)
    for start in range(0, len(embeddings), _SCORED):  # float64 copies of a few rows only
        rows = embeddings[start : start + _SCORED].astype(np.float64)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        scaled[start : start + _SCORED] = rows / np.maximum(norms, 1e-12)
    return scaled


def _checked(
    embeddings: ArrayLike, labels: ArrayLike, normalize: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return float32 embeddings (N, D), of unit length if asked, and labels (N,)."""
    rows, classes = np.asarray(embeddings, dtype=np.float32), np.asarray(labels)
    if rows.ndim != 2 or classes.shape != rows.shape[:1] or not len(rows):
        raise InvalidInputError(
            f"embeddings {rows.shape} with labels {classes.shape}: expected (N, D) and (N,), N >= 1"
        )
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).any(axis=1).sum())
        raise InvalidInputError(f"{bad} of {len(rows)} embeddings hold NaN or infinity")
    return (unit(rows) if normalize else rows), classes


def _class_counts(
    classes: NDArray[np.int64], codes: NDArray[np.int64], queries: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return for each query label how many gallery items carry it."""
    counts = np.bincount(codes, minlength=len(classes))
    position = np.searchsorted(classes, queries).clip(max=len(classes) - 1)
    found: NDArray[np.int64] = np.where(classes[position] == queries, counts[position], 0)
    return found


def _scores(
    hits: NDArray[np.bool_], relevant: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (precision_at_1, r_precision, map_at_r) of hits (b, K) with R (b,) relevant."""
    ranks = np.arange(1, hits.shape[1] + 1)
    counted = hits & (ranks <= relevant[:, None])
    precision = np.cumsum(counted, axis=1) / ranks
    with np.errstate(invalid="ignore"):
        r_precision = counted.sum(axis=1) / relevant
        map_at_r = (precision * counted).sum(axis=1) / relevant
    first = np.where(relevant > 0, hits[:, 0].astype(np.float64), np.nan)
    return first, r_precision, map_at_r
