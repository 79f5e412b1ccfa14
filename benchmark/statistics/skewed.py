"""The t statistic where the differences may be skewed, and how to see that they may be.

Student's t is exact for normal differences and good for symmetric ones. Runs of two methods that
spread alike have symmetric differences whatever the noise, because the noise of one is taken from
the same noise of the other. Where one method spreads much further, the differences have the shape
of that method's noise alone. If that shape is skewed, a few runs often lack its long tail: their
mean is off and their spread too small, and t finds a difference that is not there.

The runs that lack the tail do not look skewed, so their own skewness is of no use. The spreads
are: they tell which comparisons could be skewed. Those are marked, and their t is compared with
the t of a lognormal instead of Student's.

Source: Grubbs, "On Estimating Precision of Measuring Instruments and Product Variability", 1948
(each row's own spread without what all rows share); the thresholds and the lognormal are chosen
by simulation, see ``tests/measure_statistics.py`` and ``protocols/DECISIONS.md``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics.paired import LEVEL, Interval
from benchmark.study.seeds import seed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

UNEQUAL = 3.0  # times: one of several comparisons, from the spread of its own runs
UNEQUAL_TYPICAL = 2.0  # times: the median over a family, known better than each alone
UNEQUAL_OWN = 2.5  # times: the same for spreads without what a seed does to all methods
MIN_OWN = 4  # comparisons: with fewer, spreads without the shared part are hardly known

_DRAWS = 100_000  # standard error of a p of 0.0036 (fourteen comparisons): 0.0002
_NUMBERS = 20_000_000  # beyond 200 pairs there are fewer draws, for time
_CHUNK = 1_000_000  # numbers drawn at once
_NO_SPREAD = -50.0  # logarithm that stands for a spread of 0
_MEAN = math.exp(0.5)  # of a lognormal whose logarithm is standard normal


def p_skewed(t: Floats, n: Ints) -> Floats:
    """Return the two-sided p of ``t`` from ``n`` lognormal differences around their mean.

    The share of simulated absolute t at least as far from 0; both arrays of one shape. It covers
    either direction of the skew: the far tail of the t is the same, mirrored.
    """
    found = np.full(t.shape, np.nan)
    for size in np.unique(n[n > 1]).tolist():
        at = n == size
        reference = _reference(size)
        above = len(reference) - np.searchsorted(reference, np.abs(t[at]))
        found[at] = (above + 1) / (len(reference) + 1)
    return found


@lru_cache(maxsize=512)
def skewed_quantile(n: int, level: float) -> float:
    """Return what the absolute t of ``n`` lognormal differences stays below with ``level``.

    Rounded to four digits after the point, far below the drawing's own error, so that the last
    bit of an exponential does not reach a table.
    """
    return round(float(np.quantile(_reference(n), level)), 4)


def widened(interval: Interval) -> Interval:
    """Return the interval of skewed differences, never narrower than their Student's ``interval``.

    It leaves 0 out where :func:`p_skewed` and Student's p are at most 0.05, as the two belong
    together.
    """
    if interval.mean is None or interval.low is None or interval.sd is None:
        return interval
    half = skewed_quantile(interval.n, LEVEL) * interval.sd / math.sqrt(interval.n)
    half = max(half, interval.mean - interval.low)
    low, high = interval.mean - half, interval.mean + half
    return replace(interval, low=low, high=high, kind=f"skewed t {100 * LEVEL:g}%")


def unequal(spread_a: Floats, spread_b: Floats, own: Floats, *, one_opponent: bool) -> Bools:
    """Return which comparisons a - b could be skewed, (..., K), from how far runs spread.

    Against one opponent b the family is looked at too: the opponent's spread has a part in every
    comparison, and the median over the family tells it better than each ratio alone.

    Args:
        spread_a: (..., K) standard deviation of each method's runs; NaN where not known.
        spread_b: (..., K) that of its opponent's at the same seeds.
        own: (...,) from :func:`own_spread`; NaN where not known.
        one_opponent: whether all comparisons have the same b.
    """
    gaps = _log(spread_a) - _log(spread_b)
    if not one_opponent:
        return np.asarray(np.abs(gaps) > math.log(UNEQUAL_TYPICAL))
    typical = np.abs(_median(gaps))
    family = (typical > math.log(UNEQUAL_TYPICAL)) | (np.abs(own) > math.log(UNEQUAL_OWN))
    known = ~np.isnan(gaps)
    return np.asarray((np.abs(gaps) > math.log(UNEQUAL)) | (known & np.expand_dims(family, -1)))


def own_spread(runs: Floats) -> Floats:
    """Return the median logarithm of how much further methods spread than the first, (...,).

    Without what a seed does to all of them alike: that part is in no difference, but it hides in
    the spread of the runs how unlike the rest is. NaN below four comparisons or three seeds.

    Args:
        runs: (..., M, S) the opponent first; no value missing.
    """
    methods, seeds = runs.shape[-2:]
    if methods <= MIN_OWN or seeds < 3:
        return np.full(runs.shape[:-2], np.nan)
    centred = runs - runs.mean(axis=-1, keepdims=True)
    rest = centred - centred.mean(axis=-2, keepdims=True)
    variance = (rest**2).sum(axis=-1) / (seeds - 1)
    shared = variance.sum(axis=-1, keepdims=True) / (methods * (methods - 1))
    # The estimate can be negative where the true one is small.
    floor = 1e-3 * np.median(variance, axis=-1, keepdims=True)
    own = np.sqrt(np.maximum((variance - shared) * methods / (methods - 2), floor))
    return _median(_log(own[..., 1:]) - _log(own[..., :1]))


@lru_cache(maxsize=512)
def _reference(n: int) -> Floats:
    """Return sorted absolute t of samples of ``n`` lognormal values around their true mean."""
    rng = np.random.default_rng(seed("skewed t", n))
    draws = min(_DRAWS, max(20_000, _NUMBERS // n))
    found = np.empty(draws)
    step = max(1, _CHUNK // n)
    for start in range(0, draws, step):
        block = found[start : start + step]
        values = np.exp(rng.standard_normal((len(block), n))) - _MEAN
        block[:] = np.abs(values.mean(axis=1)) / (values.std(axis=1, ddof=1) / math.sqrt(n))
    found.sort()
    return found


def _log(spread: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(np.log(spread), _NO_SPREAD))


def _median(values: Floats) -> Floats:
    """Return the median along the last axis of what is known, NaN where nothing is."""
    nothing = np.isnan(values).all(axis=-1)
    found = np.nanmedian(np.where(np.expand_dims(nothing, -1), 0.0, values), axis=-1)
    return np.asarray(np.where(nothing, np.nan, found))
