"""What a run found for every query: whether it can be true, and the run's numbers made of it.

Everything here follows from the definitions in :mod:`protocols.metrics` for *any* ranking, so no
honest run can break a rule. With R images to find, k of them among the first R, and a first
neighbour that is one of them or not, MAP@R is one of finitely many numbers: it is looked up where
R is small and bounded where R is large.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.submissions.schema import Run, Scores
from benchmark.submissions.values import INT, Values
from protocols.metrics import AVERAGED, METRICS
from protocols.verification import names as names_of_pairs

LISTED = 10  # up to this R all 2^R rankings are listed
CLOSE = 2e-7  # to what float32 keeps of a fraction; also of a mean of such
OF_PAIRS = names_of_pairs()  # no means over queries: bounded, in figures, and not made anew
EXACT = 1e-12  # between two ways to sum the same float64 numbers

Floats = NDArray[np.float64]
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the q queries that have an image to find got under F + 1 models.

    Attributes:
        query: (q,) positions of their images.
        n: (q,) images to find, at least one.
        k: (F + 1, q) hits among the first n.
        fraction: (F + 1, q) k / n, which float32 has rounded.
        rows: by metric (F + 1, q), and (1, q) of what is reported of the joined embedding alone.
    """

    query: Array
    n: NDArray[np.int64]
    k: Floats
    fraction: Floats
    rows: dict[str, Floats]


def relevant(values: Values) -> NDArray[np.int64]:
    """Return R of every query, (Q,): images of its class to find, itself not among them.

    Where not every image is a query, the others are the gallery.
    """
    return _relevant(values.labels.tobytes(), values.query.tobytes())


@lru_cache(maxsize=16)  # rows of one dataset have one test set
def _relevant(labels_bytes: bytes, query_bytes: bytes) -> NDArray[np.int64]:
    labels, query = np.frombuffer(labels_bytes, INT), np.frombuffer(query_bytes, INT)
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
    counted = found > 0
    if not counted.any():
        yield "no query has an image to find"
        return
    expected = int((~counted).sum())
    if run.excluded != expected:
        yield f"{run.excluded} queries excluded; by the labels {expected} are"
    for name in METRICS:
        if (np.isnan(values.found[name]) == counted).any():
            yield f"{name}: expected a value for every query with an image to find, NaN else"
            return
    asked = _asked(values, found, counted)
    depth = max((run.concatenated.recalls if run.concatenated else {}), default=0)
    impossible = _impossible(asked, depth)
    if impossible:
        yield impossible
        return
    wrong = list(_means(run, asked))
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


def _asked(values: Values, found: NDArray[np.int64], counted: NDArray[np.bool_]) -> _Asked:
    """Return the counted queries of ``values``, which find ``found`` images each."""
    everyone = bool(counted.all())  # the usual case, which needs no copies
    rows = {
        name: (row if everyone else row[:, counted]).astype(np.float64)
        for name, row in values.found.items()
    }
    n = found[counted]
    k = np.clip(np.rint(rows["r_precision"] * n), 0, n)
    return _Asked(values.query[counted], n, k, k / n, rows)


def _impossible(asked: _Asked, depth: int) -> str:
    """Return which query's values no ranking gives, in one line; empty if there is none.

    ``depth`` is the rank down to which first hits were looked for.
    """
    n, k = asked.n, asked.k
    p1, rp, ap = (asked.rows[name] for name in METRICS)
    broken = {
        "precision_at_1 is 0 or 1": (p1 != 0) & (p1 != 1),
        "r_precision is a whole number of R": ~_near(rp, asked.fraction),
        "a first hit counts among the first R": (p1 > k) | ((k == n) & (p1 == 0)),
        "map_at_r is one of a ranking with these hits": ~_attainable(ap, k, p1, n),
    }
    if "first_hit" in asked.rows:
        first, ten = asked.rows["first_hit"], asked.rows["map_at_10"]
        broken |= _first_hits(first, ten, p1[:1], k[:1], ap[:1], n, depth)
    for rule, where in broken.items():
        if where.any():
            model, at = np.argwhere(where)[0]
            which = f"fold {model - 1}" if model else "the joined embedding"
            position = int(asked.query[at])
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
    large = n > LISTED
    if not large.any():
        return _listed(ap, k, p1, n)
    good = np.empty(ap.shape, bool)
    low, high = _ends(k[:, large], p1[:, large], n[large])
    good[:, large] = (ap[:, large] >= low - CLOSE) & (ap[:, large] <= high + CLOSE)
    good[:, ~large] = _listed(ap[:, ~large], k[:, ~large], p1[:, ~large], n[~large])
    return good


def _listed(ap: Floats, k: Floats, p1: Floats, n: Array) -> NDArray[np.bool_]:
    """Return the same where R is small enough to list the rankings."""
    starts, parts, known = _rankings()
    of = parts[n]
    exact = ap * of
    whole = np.rint(exact)
    at = starts[n] + ((2 * k + (p1 > 0)) * (of + 1) + whole).astype(np.int64)
    return np.asarray((np.abs(exact - whole) <= CLOSE * of) & known[at])


@lru_cache
def _rankings() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return which MAP@R the 2^n hits and misses at n ranks give, for n up to ``LISTED``.

    MAP@R is a sum of j / rank over n, so a whole number of parts of which n lcm(1, …, n) are 1.

    Returns:
        by n the start of its table, by n its number of parts, and the tables one behind the other:
        known[start + (2 k + P@1) * (parts + 1) + MAP@R in parts].
    """
    starts, parts, tables = [0], [0], [np.zeros(0, bool)]
    for n in range(1, LISTED + 1):
        ranks = np.arange(1, n + 1)
        hits = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1  # (2^n, n)
        whole = math.lcm(*ranks.tolist())
        sums = (hits * hits.cumsum(axis=1) * (whole // ranks)).sum(axis=1)
        table = np.zeros((2 * n + 2, n * whole + 1), bool)
        table[2 * hits.sum(axis=1) + hits[:, 0], sums] = True
        starts.append(starts[-1] + tables[-1].size)
        parts.append(n * whole)
        tables.append(table.ravel())
    return np.array(starts), np.array(parts), np.concatenate(tables)


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


def _means(run: Run, asked: _Asked) -> Iterator[str]:
    """Yield which of the run's numbers is not the mean over its queries."""
    stated: list[tuple[str, Scores | None]] = [("concatenated", run.concatenated)]
    stated += [(f"folds.{number}", scores) for number, scores in enumerate(run.folds)]
    exact = {**asked.rows, "r_precision": asked.fraction}
    first = exact.pop("first_hit", None)
    means = {metric: found.mean(axis=1).tolist() for metric, found in exact.items()}
    for model, (name, scores) in enumerate(stated):
        assert scores is not None
        for metric in (*METRICS, *(n for n in scores.reported if n not in OF_PAIRS)):
            if metric.startswith("recall_at_"):
                mean = _recall(first, model, int(metric.removeprefix("recall_at_")))
            else:
                mean = next(iter(means.get(metric, [])[model : model + 1]), None)
            said = getattr(scores, metric)
            near = EXACT if metric not in ("map_at_r", "map_at_10") else CLOSE
            if mean is None:
                yield f"{name}.{metric} is reported, but no query has it"
            elif abs(mean - said) > near:
                yield f"{name}.{metric} {said}; its queries give {mean:.12g}"


def _recall(first: Array | None, model: int, k: int) -> float | None:
    """Return the share of queries whose first hit is at rank k or before; None if not known."""
    if first is None or model >= len(first):
        return None
    return float(np.count_nonzero((first[model] > 0) & (first[model] <= k)) / len(first[model]))
