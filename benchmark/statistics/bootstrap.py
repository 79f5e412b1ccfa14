"""Resampling where no t-interval exists: test classes, and seeds within datasets.

Draws come from generators seeded by names, so equal data give equal intervals and a method's
interval does not depend on the others in its table. Everything else here is pure.

Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979; Hesterberg, "What
Teachers Should Know About the Bootstrap", 2015 (the expanded percentile interval).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from benchmark.study.datasets import identity
from benchmark.study.seeds import seed

Floats = NDArray[np.float64]

LEVEL = 0.95
MIN_CLASSES = 20  # with fewer, a few unusual classes decide how wide the interval is
CLASS_DRAWS = 2_000  # the ends' Monte Carlo error is 3 % of the half-width
SEED_DRAWS = 4_000  # more, for expanded intervals look further into the tails
_CHUNK = 250  # resamples multiplied at once: 23 MB at 11,316 classes


@lru_cache(maxsize=4)
def draw_classes(dataset: str, classes: int) -> NDArray[np.uint8]:
    """Return how often each class is drawn in each resample, (2000, C); rows sum to C.

    Classes are drawn, not queries: queries of one class succeed and fail together.
    """
    rng = np.random.default_rng(seed("class bootstrap", identity(dataset), classes))
    drawn = np.empty((CLASS_DRAWS, classes), np.uint8)
    for row in drawn:
        row[:] = np.bincount(rng.integers(0, classes, classes), minlength=classes)
    return drawn


def sum_by_class(labels: NDArray[Any], values: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return class ids (C,), counted queries (C,) and sums (K, C) of ``values`` (K, Q).

    A query that is excluded is NaN in every metric; it is neither summed nor counted.
    """
    counted = ~np.isnan(values).any(axis=0)
    classes, codes, counts = _coded(labels[counted].astype(np.int64).tobytes())
    kept = values if counted.all() else values[:, counted]
    sums = [np.bincount(codes, weights=row, minlength=len(classes)) for row in kept]
    return classes, counts, np.array(sums)


@lru_cache(maxsize=16)  # runs on one dataset have one test set
def _coded(labels: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return class ids (C,), each query's position among them and each class's queries (C,)."""
    classes, codes = np.unique(np.frombuffer(labels, np.int64), return_inverse=True)
    return classes, codes, np.bincount(codes, minlength=len(classes)).astype(np.float64)


def class_means(drawn: NDArray[np.uint8], sums: Floats, counts: Floats) -> Floats:
    """Return the mean over queries in each resample of the classes, (resamples, K).

    Args:
        drawn: (resamples, C) from :func:`draw_classes`.
        sums: (K, C) sums over each class's queries of K metrics.
        counts: (C,) queries of each class; a class may have none that counts.
    """
    columns = np.column_stack([sums.T, counts])  # (C, K + 1)
    parts = [
        drawn[at : at + _CHUNK].astype(np.float64) @ columns for at in range(0, len(drawn), _CHUNK)
    ]
    totals = np.concatenate(parts)
    return np.asarray(totals[:, :-1] / totals[:, -1:])


def over_classes(replicates: Floats, classes: int) -> tuple[Floats, Floats]:
    """Return the ends (K,) of the 95 % intervals from replicates (resamples, K) of ``classes``.

    Deviations are stretched by sqrt(C / (C - 1)), as those of seeds below.
    """
    mean = replicates.mean(axis=0)
    stretched = mean + (replicates - mean) * np.sqrt(classes / (classes - 1))
    return _ends(stretched, classes - 1)


def scores_over_classes(replicates: Floats, classes: int) -> tuple[Floats, Floats]:
    """Return the ends of :func:`over_classes` for scores, which no class takes out of 0 to 1.

    Stretching does, where nearly all queries succeed.
    """
    low, high = over_classes(replicates, classes)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


@lru_cache(maxsize=64)
def draw_seeds(dataset: str, seeds: int) -> NDArray[np.int64]:
    """Return indices (4000, n) of seeds drawn with replacement within one dataset."""
    rng = np.random.default_rng(seed("seed bootstrap", identity(dataset), seeds))
    return rng.integers(0, seeds, (SEED_DRAWS, seeds))


def resample_seeds(dataset: str, values: Floats, draws: int = SEED_DRAWS) -> Floats:
    """Return one method's values (n,) on one dataset with the seeds resampled, (draws, n).

    Deviations from the mean are stretched by sqrt(n / (n - 1)): without it the spread of a
    resampled mean would be too small by as much, 18 % at n = 3.
    """
    return np.asarray(_stretched(values)[draw_seeds(dataset, len(values))[:draws]])


def resample_means(dataset: str, values: Floats) -> Floats:
    """Return the means of :func:`resample_seeds` for many methods (M, n) at once, (4000, M).

    Every method gets the same seeds, so that pairs stay pairs.
    """
    return np.asarray(_shares(dataset, values.shape[1]) @ _stretched(values).T)


def _stretched(values: Floats) -> Floats:
    n, mean = values.shape[-1], values.mean(axis=-1, keepdims=True)
    return np.asarray(mean + (values - mean) * np.sqrt(n / (n - 1)))


@lru_cache(maxsize=64)
def _shares(dataset: str, seeds: int) -> Floats:
    """Return each seed's share of each resample, (4000, n)."""
    drawn = draw_seeds(dataset, seeds)
    return np.stack([(drawn == at).sum(axis=1) for at in range(seeds)], axis=1) / seeds


def expanded(replicates: Floats, freedom: int) -> tuple[float, float]:
    """Return the ends of a 95 % interval from replicates (draws,) of a stratified statistic.

    The percentiles lie where Student's t of ``freedom`` degrees has them, not the normal: with few
    seeds the spread itself is not well known.
    """
    low, high = _ends(replicates, freedom)
    return float(low), float(high)


def _ends(replicates: Floats, freedom: int) -> tuple[Floats, Floats]:
    """Return the expanded percentiles along the first axis.

    Rounded to 1e-6, a hundredth of a per cent of a point and far below the drawing's own error:
    the products above may differ in their last bits from one BLAS to another.
    """
    tail = float(ndtr(stdtrit(freedom, (1 - LEVEL) / 2)))
    low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
    return np.round(low, 6), np.round(high, 6)
