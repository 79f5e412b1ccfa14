"""Retrieval metrics with one written definition each.

A query of a class with n images in the gallery (itself not counted) has R = n. With the
gallery sorted by similarity, the query itself removed by its index:

* precision_at_1: the first neighbour has the query's class;
* r_precision: (same-class images among the first R) / R;
* map_at_r: (1/R) * sum over ranks i = 1..R of [hit at i] * (hits up to i) / i.

Source: Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020, section 3.

Reported beside them on test images, never used to choose anything:

* recall_at_k: 1 if an image of the query's class is among the first k, else 0. Source: Song,
  Xiang, Jegelka and Savarese, "Deep Metric Learning via Lifted Structured Feature Embedding",
  CVPR 2016, section 6. Which k is the dataset's business (:mod:`protocols.dataset`).
* map_at_10: (1 / min(R, 10)) * sum over ranks i = 1..10 of [hit at i] * (hits up to i) / i.
  Source: Weyand, Araujo, Cao and Sim, "Google Landmarks Dataset v2", CVPR 2020, section 3.3,
  with 10 in place of 100, as most classes here are small.

Averages go over queries. A query whose class has no other image (R = 0) is left out of the
averages, stays in the gallery, and is counted in ``excluded``. Where all are, no mean exists.

Rows that are equally near to a query stand in the order of their index, which is the order of
the dataset's files: the same files give the same numbers, but where a row of the query's class
ties with a row of another class, another order of the files would have given others. ``ties``
counts the queries to which that happened among the first R; they are many where an embedding
has collapsed to a point. Equally near means: similarities (the cosine, or q.x - |x|^2 / 2 to
rank by Euclidean distance) summed in float64 and rounded to float32 are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.errors import InvalidInputError
from protocols.first_hit import Groups, first_hits
from protocols.nearest import nearest
from protocols.ranking import Ranking, centred, reflected

METRICS = ("precision_at_1", "r_precision", "map_at_r")
AVERAGED = 10  # ranks that map_at_10 looks at
_SCORED = 4096  # rows scaled or scored at once
# threads that scale rows for a GPU; with one, scaling takes longer than the GPU's products
_THREADS = 8

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class PerQuery:
    """Metrics of each query, fractions in [0, 1]; NaN where the query is excluded.

    Attributes:
        precision_at_1: (Q,) float64.
        r_precision: (Q,) float64.
        map_at_r: (Q,) float64.
        neighbours: (Q, K) int64 gallery indices, nearest first.
        tied: (Q,) bool, whether the tie rule may decide the query's precision_at_1, r_precision
            or map_at_r. What ``map_at_10`` and ``first_hit`` see beyond R is not looked at.
        map_at_10: (Q,) float64; None where no recall was asked for.
        first_hit: (Q,) int64 rank of the first image of the query's class, 1 for the nearest;
            0 where none is among the first max(``recall_at``). None where none was asked for.
        recall_at: the k of each recall.
    """

    precision_at_1: Floats
    r_precision: Floats
    map_at_r: Floats
    neighbours: Ids
    tied: NDArray[np.bool_]
    map_at_10: Floats | None = None
    first_hit: Ids | None = None
    recall_at: tuple[int, ...] = ()

    @property
    def excluded(self) -> int:
        """Return how many queries have no other image of their class."""
        return int(np.isnan(self.map_at_r).sum())

    @property
    def ties(self) -> int:
        """Return in how many queries the order of the dataset's files may decide a metric.

        That is one of :data:`METRICS`, by which models are selected; see ``tied``.
        """
        return int(self.tied.sum())

    def values(self) -> dict[str, Floats]:
        """Return each metric's (Q,) values by its name, NaN where the query is excluded."""
        found = {name: getattr(self, name) for name in METRICS}
        if self.first_hit is not None and self.map_at_10 is not None:
            found |= recalls(self.first_hit, self.recall_at, np.isnan(self.map_at_r))
            found["map_at_10"] = self.map_at_10
        return found

    def means(self) -> dict[str, float]:
        """Return each metric's mean over the queries that count.

        Raises:
            InvalidInputError: none counts: no query has another image of its class.
        """
        counted = ~np.isnan(self.map_at_r)
        if not counted.any():
            raise InvalidInputError(
                f"none of {len(counted)} queries has another image of its class to find: "
                "expected a class with two images or more"
            )
        return {name: float(value[counted].mean()) for name, value in self.values().items()}


def reported(recall_at: Iterable[int]) -> tuple[str, ...]:
    """Return the names of all metrics of a test where recall is asked for at these k."""
    return (*METRICS, *(f"recall_at_{k}" for k in recall_at), "map_at_10")


def recalls(
    first_hit: NDArray[np.integer], recall_at: Iterable[int], excluded: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Return recall_at_k (Q,) for each k from the ranks of first hits (Q,), 0 for none."""
    return {
        f"recall_at_{k}": np.where(excluded, np.nan, (first_hit > 0) & (first_hit <= k))
        for k in recall_at
    }


def retrieval(
    embeddings: ArrayLike, labels: ArrayLike, *, normalize: bool = True
) -> dict[str, float]:
    """Return the three metrics of a set searched against itself, fractions in [0, 1].

    Args:
        embeddings: (N, D) finite numbers; not changed.
        labels: (N,) class of each row.
        normalize: True compares by angle, False by Euclidean distance.

    Raises:
        InvalidInputError: shapes that do not fit, fewer than two rows, non-finite numbers, no
            class with two rows.
    """
    return per_query(embeddings, labels, normalize=normalize).means()


def per_query(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    gallery: tuple[ArrayLike, ArrayLike] | None = None,
    normalize: bool = True,
    ranking: Ranking | None = None,
    sheets: int = 1,
    neighbours: int = 10,
    recall_at: Sequence[int] = (),
    device: str = "cpu",
) -> PerQuery:
    """Return the metrics of every query.

    Args:
        embeddings: (Q, D) queries; not changed.
        labels: (Q,) class of each query.
        gallery: (embeddings (N, D), labels (N,)) of a separate gallery. By default the
            queries are the gallery and each is removed from its own result by index.
        normalize: True compares by angle, False by Euclidean distance.
        ranking: the rule by its name, in place of ``normalize``; see :mod:`protocols.ranking`.
        sheets: points of a hyperboloid that a row holds side by side.
        neighbours: how many nearest gallery indices to return for each query, at most.
        recall_at: the k, 1 or more, of the recalls to report; with any, map_at_10 too.
        device: where products are made, in torch's words; the result does not depend on it.

    Raises:
        InvalidInputError: shapes that do not fit, an empty set, non-finite numbers, a k below 1.
    """
    if min(recall_at, default=1) < 1:
        raise InvalidInputError(f"recall at {list(recall_at)}: expected every k to be 1 or more")
    ranking = ranking or ("angle" if normalize else "distance")
    normalize = ranking == "angle"
    threads = 1 if device == "cpu" else _THREADS  # on the CPU the protocol says how many
    queries, query_labels = checked(embeddings, labels, normalize, threads)
    own = gallery is None
    items, item_labels = (
        (queries, query_labels) if gallery is None else checked(*gallery, normalize, threads)
    )
    half = np.zeros(len(items))
    if ranking == "hyperboloid":
        queries = reflected(queries, sheets)
    elif ranking == "distance":
        queries, items = centred(queries, items)
        # Euclidean order without a square root: q.x - |x|^2 / 2 falls as the distance grows.
        half = (items.astype(np.float64) ** 2).sum(1) / 2
    pair = _Searched(queries, items, half, Groups.of(query_labels, item_labels, own), device)
    return _per_query(pair, query_labels, item_labels, neighbours, tuple(recall_at))


def concatenate(parts: list[NDArray[np.float32]], *, normalize: bool = True) -> NDArray[np.float32]:
    """Return (N, sum of D) rows joined from several models' (N, D) embeddings.

    With ``normalize`` each part is scaled to unit length first, so that every model counts
    the same (specs of the Reality Check: four 128-d outputs give 512).
    """
    joined: NDArray[np.float32] = np.concatenate(
        [unit(part) if normalize else part for part in parts], axis=1
    )
    return joined


def unit(embeddings: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
    """Return rows scaled to unit Euclidean length; a zero row stays zero."""
    scaled = np.empty(embeddings.shape, np.float32)
    step = _SCORED // threads

    def scale(start: int) -> None:
        # a few rows at a time: it takes twice their memory
        rows = embeddings[start : start + step].astype(np.float64)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        scaled[start : start + step] = rows / np.maximum(norms, 1e-12)

    starts = range(0, len(embeddings), step)
    if threads == 1:
        for start in starts:
            scale(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(scale, starts))
    return scaled


def _per_query(
    pair: _Searched,
    query_labels: Ids,
    item_labels: Ids,
    neighbours: int,
    recall_at: tuple[int, ...],
) -> PerQuery:
    """Search, and score a few thousand queries at a time."""
    groups, others = pair.groups, len(pair.items) - pair.groups.own
    if others < 1:
        raise InvalidInputError(f"{len(pair.items)} embeddings: retrieval needs at least 2")
    seen = max(int(groups.relevant.max(initial=1)), neighbours, AVERAGED * bool(recall_at), 1)
    # One more than the metrics look at: does the last one tie with what follows?
    found = nearest(*pair.rows, min(seen + 1, others), pair.device, own=groups.own)
    parts = []
    for start in range(0, len(query_labels), _SCORED):
        rows = slice(start, start + _SCORED)
        relevant = groups.relevant[rows]
        hits = item_labels[found.column[rows]] == query_labels[rows, None]
        tied = _decided(hits, found.tied[rows], relevant, others)
        parts.append((*_scores(hits[:, :seen], relevant), tied))
    p1, rp, ap, ap_10, first, tied = (np.concatenate(part) for part in zip(*parts, strict=True))
    scored = PerQuery(p1, rp, ap, found.column[:, :neighbours], tied)
    if not recall_at:
        return scored
    depth = max(recall_at)
    late = np.flatnonzero((first == 0) & (groups.relevant > 0))
    if depth > seen and len(late):
        some = groups.pairs(late)
        asked, ranks = first_hits(*pair.rows, some, depth, pair.device, own=groups.own)
        first[asked] = ranks
    first[first > depth] = 0
    return replace(scored, map_at_10=ap_10, first_hit=first, recall_at=recall_at)


def checked(
    embeddings: ArrayLike, labels: ArrayLike, normalize: bool, threads: int = 1
) -> tuple[NDArray[np.float32], Ids]:
    """Return float32 embeddings (N, D), of unit length if asked, and labels (N,).

    Raises:
        InvalidInputError: shapes that do not fit, no row, or numbers that are not finite.
    """
    rows, classes = np.asarray(embeddings, dtype=np.float32), np.asarray(labels)
    if rows.ndim != 2 or classes.shape != rows.shape[:1] or not len(rows):
        raise InvalidInputError(
            f"embeddings {rows.shape} with labels {classes.shape}: expected (N, D) and (N,), N >= 1"
        )
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).any(axis=1).sum())
        raise InvalidInputError(f"{bad} of {len(rows)} embeddings hold NaN or infinity")
    return (unit(rows, threads) if normalize else rows), classes


@dataclass(frozen=True)
class _Searched:
    """Rows as :func:`protocols.nearest.nearest` takes them, their groups and the device."""

    queries: NDArray[np.float32]
    items: NDArray[np.float32]
    half_squares: Floats
    groups: Groups
    device: str

    @property
    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32], Floats]:
        """Return queries, items and half squares."""
        return self.queries, self.items, self.half_squares


def _scores(hits: NDArray[np.bool_], relevant: Ids) -> tuple[Floats, Floats, Floats, Floats, Ids]:
    """Return (precision_at_1, r_precision, map_at_r, map_at_10, first_hit), each (b,).

    Args:
        hits: (b, K) which of the K nearest are of the query's class.
        relevant: (b,) R.
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    counted = hits & (ranks <= relevant[:, None])
    precision = np.cumsum(hits, axis=1) / ranks
    ten = (precision * hits)[:, :AVERAGED]
    with np.errstate(invalid="ignore"):
        r_precision = counted.sum(axis=1) / relevant
        map_at_r = (precision * counted).sum(axis=1) / relevant
        map_at_10 = ten.sum(axis=1) / np.minimum(relevant, AVERAGED)
    first = np.where(relevant > 0, hits[:, 0].astype(np.float64), np.nan)
    first_hit = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
    return first, r_precision, map_at_r, map_at_10, first_hit


def _decided(
    hits: NDArray[np.bool_], tied: NDArray[np.bool_], relevant: Ids, others: int
) -> NDArray[np.bool_]:
    """Return (b,) whether a tie of the query's class with another begins among the first R.

    A tie that goes on to the end of what was looked at counts: its further classes are unknown.
    """
    if not tied.any():
        return np.zeros(len(hits), bool)
    width = hits.shape[1]
    begin = np.maximum.accumulate(np.where(tied, 0, np.arange(width)), axis=1)
    # then the item before it, with which it ties, is among the first R too
    inside = tied & (begin < relevant[:, None])
    mixed: NDArray[np.bool_] = (inside[:, 1:] & (hits[:, 1:] != hits[:, :-1])).any(axis=1)
    return mixed | (inside[:, -1] if width < others else False)
