"""What a run found for every query: whether it can be true, and the run's numbers made of it.

Everything here follows from the definitions in :mod:`protocols.metrics` for *any* ranking, so no
honest run can break a rule. With R images to find, k of them among the first R, and a first
neighbour that is one of them or not, MAP@R is one of finitely many numbers: it is looked up where
R is small and bounded where R is large.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.submissions.schema import Run, Scores
from benchmark.submissions.values import Values
from protocols.metrics import AVERAGED, METRICS

LISTED = 10  # up to this R all 2^R rankings are listed
CLOSE = 2e-7  # to what float32 keeps of a fraction; also of a mean of such
EXACT = 1e-12  # between two ways to sum the same float64 numbers

Floats = NDArray[np.float64]
Array = NDArray[Any]


def relevant(values: Values) -> NDArray[np.int64]:
    """Return R of every query, (Q,): images of its class to find, itself not among them.

    Where not every image is a query, the others are the gallery.
    """
    labels, query = values.labels, values.query
    if len(query) == len(labels):
        _, code, count = np.unique(labels, return_inverse=True, return_counts=True)
        return np.asarray(count[code] - 1)
    gallery = np.ones(len(labels), bool)
    gallery[query] = False
    classes, count = np.unique(labels[gallery], return_counts=True)
    at = np.minimum(np.searchsorted(classes, labels[query]), len(classes) - 1)
    return np.where(classes[at] == labels[query], count[at], 0)


def faults(run: Run, values: Values) -> Iterator[str]:
    """Yield why ``values`` are no run's, or not the run's that ``run`` says."""
    layout = _layout(run, values)
    if layout:
        yield layout
        return
    found = relevant(values)
    if not (found > 0).any():
        yield "no query has an image to find"
        return
    counted, expected = found > 0, int((found == 0).sum())
    if run.excluded != expected:
        yield f"{run.excluded} queries excluded; by the labels {expected} are"
    depth = max((run.concatenated.recalls if run.concatenated else {}), default=0)
    impossible = _impossible(values, found, counted, depth)
    if impossible:
        yield impossible
        return
    wrong = list(_means(run, values, found, counted))
    if wrong:
        yield f"{wrong[0]}{f' (and {len(wrong) - 1} more)' if len(wrong) > 1 else ''}"


def _layout(run: Run, values: Values) -> str:
    """Return where sizes are not the run's, in one line; empty if they are."""
    images, query = len(values.labels), values.query
    if run.embeddings_shape and run.embeddings_shape[0] != images:
        return f"{images} labels; embeddings_shape says {run.embeddings_shape[0]} images"
    folds = len(values.found[METRICS[0]]) - 1
    if folds != len(run.folds):
        return f"{folds} folds of values; the run has {len(run.folds)}"
    return "" if (run.ties or 0) <= len(query) else f"{run.ties} ties of {len(query)} queries"


def _impossible(
    values: Values, found: NDArray[np.int64], counted: NDArray[np.bool_], depth: int
) -> str:
    """Return which query's values no ranking gives, in one line; empty if there is none.

    ``depth`` is the rank down to which first hits were looked for.
    """
    number = {name: rows.astype(np.float64) for name, rows in values.found.items()}
    for name in METRICS:
        if (np.isnan(number[name]) == counted).any():
            return f"{name}: expected a value for every query with an image to find, NaN else"
    n = found[counted]
    p1, rp, ap = (number[name][:, counted] for name in METRICS)
    k = np.clip(np.rint(rp * n), 0, n)
    broken = {
        "precision_at_1 is 0 or 1": (p1 != 0) & (p1 != 1),
        "r_precision is a whole number of R": ~_near(rp, k / n),
        "a first hit counts among the first R": (p1 > k) | ((k == n) & (p1 == 0)),
        "map_at_r is one of a ranking with these hits": ~_attainable(ap, k, p1, n),
    }
    if "first_hit" in number:
        first, ten = number["first_hit"][:, counted], number["map_at_10"][:, counted]
        broken |= _first_hits(first, ten, p1[:1], k[:1], ap[:1], n, depth)
    for rule, where in broken.items():
        if where.any():
            model, at = np.argwhere(where)[0]
            which = f"fold {model - 1}" if model else "the joined embedding"
            position = int(values.query[np.flatnonzero(counted)[at]])
            return f"image {position} under {which}: no ranking gives its values ({rule})"
    return ""


def _near(a: Floats, b: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.abs(a - b) <= CLOSE)


def _first_hits(
    first: Floats, ten: Floats, p1: Floats, k: Floats, ap: Floats, n: Array, depth: int
) -> dict[str, NDArray[np.bool_]]:
    """Return where the rank of the first hit and MAP@10 break a rule; (1, q) each.

    A first hit of 0 lies deeper than ``depth``.
    """
    seen = first > 0
    late = np.where(seen, first, depth + 1) > AVERAGED
    latest = np.where(k > 0, n - k + 1, np.inf)  # k hits among the first R leave it no later rank
    at_ten = np.where(seen & (first <= AVERAGED), 1 / np.maximum(first, 1), 0.0)
    return {
        "the first hit is at rank 1 exactly where precision_at_1 is 1": (first == 1) != (p1 == 1),
        "with k hits among R, the first is at R - k + 1 at the latest": seen & (first > latest),
        "first hits were looked for down to the largest k": (first < 0) | (first > depth),
        "without a hit among R, the first comes after": seen & (k == 0) & (first <= n),
        "map_at_10 is a fraction": (ten < 0) | (ten > 1),
        "map_at_10 counts the first hit": ten < at_ten / np.minimum(n, AVERAGED) - CLOSE,
        "map_at_10 is 0 where the first hit comes later": late & (ten > 0),
        "map_at_10 is no less than map_at_r where R is 10 at most": (n <= AVERAGED)
        & (ten < ap - CLOSE),
        "map_at_10 is map_at_r where R is 10": (n == AVERAGED) & ~_near(ten, ap),
    }


def _attainable(ap: Floats, k: Floats, p1: Floats, n: Array) -> NDArray[np.bool_]:
    """Return (F + 1, q) whether a ranking with these hits has this MAP@R."""
    good = np.empty(ap.shape, bool)
    large = n > LISTED
    if large.any():
        low, high = _ends(k[:, large], p1[:, large], n[large])
        good[:, large] = (ap[:, large] >= low - CLOSE) & (ap[:, large] <= high + CLOSE)
    for size in np.unique(n[~large]).tolist():
        of_size = n == size
        code = 4 * k[:, of_size] + 2 * p1[:, of_size] + ap[:, of_size]
        known = _rankings(size)
        at = np.searchsorted(known, code)
        nearest = np.minimum(
            np.abs(code - known[np.minimum(at, len(known) - 1)]),
            np.abs(code - known[np.maximum(at - 1, 0)]),
        )
        good[:, of_size] = nearest <= CLOSE
    return good


@lru_cache
def _rankings(n: int) -> Floats:
    """Return 4 k + 2 P@1 + MAP@R of every one of the 2^n hits and misses at n ranks, ascending."""
    hits = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1  # (2^n, n)
    ranks = np.arange(1, n + 1)
    ap = (hits * hits.cumsum(axis=1) / ranks).sum(axis=1) / n
    return np.unique(4 * hits.sum(axis=1) + 2 * hits[:, 0] + ap)


def _ends(k: Floats, p1: Floats, n: Array) -> tuple[Floats, Floats]:
    """Return the least and the largest MAP@R with k hits among n, the first a hit or not.

    Hits come first at best: k / n, or from rank 2 on. At worst they come last, at ranks n - k + 1
    to n, all but the first where that is a hit. Sums of j / (n - k + j) are differences of
    harmonic numbers H: k - (n - k) (H(n) - H(n - k)).
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(n.max()) + 2))])
    k_at, n_at = k.astype(np.int64), np.broadcast_to(n, k.shape)
    last = k - (n - k) * (harmonic[n_at] - harmonic[n_at - k_at])
    low = np.where(p1 > 0, last + 1 - 1 / (n - k + 1), last) / n
    high = np.where(p1 > 0, k, k - (harmonic[k_at + 1] - 1)) / n
    return low, high


def _means(
    run: Run, values: Values, found: NDArray[np.int64], counted: NDArray[np.bool_]
) -> Iterator[str]:
    """Yield which of the run's numbers is not the mean over its queries."""
    n = found[counted]
    stated: list[tuple[str, Scores | None]] = [("concatenated", run.concatenated)]
    stated += [(f"folds.{number}", scores) for number, scores in enumerate(run.folds)]
    for model, (name, scores) in enumerate(stated):
        assert scores is not None
        kept = {m: v for m, v in values.found.items() if model < len(v)}
        rows = {m: v[model, counted].astype(np.float64) for m, v in kept.items()}
        rows["r_precision"] = np.rint(rows["r_precision"] * n) / n  # what float32 has rounded
        for metric in (*METRICS, *scores.reported):
            mean = _mean(metric, rows)
            said = getattr(scores, metric)
            near = EXACT if metric not in ("map_at_r", "map_at_10") else CLOSE
            if mean is None:
                yield f"{name}.{metric} is reported, but no query has it"
            elif abs(mean - said) > near:
                yield f"{name}.{metric} {said}; its queries give {mean:.12g}"


def _mean(metric: str, rows: dict[str, Floats]) -> float | None:
    if not metric.startswith("recall_at_"):
        return float(rows[metric].mean()) if metric in rows else None
    first = rows.get("first_hit")
    k = int(metric.removeprefix("recall_at_"))
    return None if first is None else float(((first > 0) & (first <= k)).mean())
