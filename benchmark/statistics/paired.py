"""Intervals and paired tests over the final runs of cells.

The unit of replication is a run: one seed, trained and tested once. Metrics are fractions, so
means, differences and intervals are fractions too. Everything here is pure; sums are exact
(:func:`math.fsum`), so no result depends on the order of the runs or on a BLAS.

Source: Student, "The Probable Error of a Mean", 1908; Fisher, "The Design of Experiments", 1935
(sign flips); Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from protocols.errors import InvalidInputError

Floats = NDArray[np.float64]
Signs = NDArray[np.float64]

ALPHA = 0.05
LEVEL = 0.95  # of every interval: in 95 % of repetitions it holds the true value
ROPE = 0.005  # half a point: differences that small are of no consequence
MIN_RUNS = 3  # a t-interval of two runs is 12.7 standard errors wide: it says nothing
FIXED = "deterministic"  # kind of the interval of a run that every seed would repeat: none
MIN_PAIRS = 6  # the smallest two-sided sign-flip p is 2 / 2^n: 0.0625 at n = 5
LISTED_PAIRS = 12  # up to 2^11 sums are listed for many comparisons at once
EXACT_PAIRS = 20  # up to 2^20 sign flips are all counted, beyond that they are drawn
DRAWN_FLIPS = 9_999  # standard error 0.002 at p = 0.05

# Metrics are counts over queries, so different flips often have the same sum, but for rounding.
TIE = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean and how well it is known; None where there is no such number.

    Attributes:
        n: how many values.
        mean: their mean.
        sd: their standard deviation, n - 1 in the denominator; None below n = 2.
        low, high: ends of the interval; None below n = 3.
        kind: ``t 95%``, ``none (n < 3)``, or ``deterministic`` for a single run that stands for
            all.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    kind: str

    @property
    def alike(self) -> bool:
        """Return whether all values are the same but for rounding: no spread, and none shown."""
        return self.sd is not None and self.sd <= TIE


@dataclass(frozen=True)
class Paired:
    """How two methods compare over the seeds that both have run.

    Attributes:
        difference: of a - b, with its t-interval.
        p: two-sided sign-flip p; None below 6 pairs, where none could reach 0.05.
        p_note: why there is no p, or how it was drawn; empty for an exact p.
        probability: P(a > b) over the pairs, ties half; None without a pair.
        effect: mean difference in standard deviations of the differences; None if that is 0
            or only rounding.
    """

    difference: Interval
    p: float | None
    p_note: str
    probability: float | None
    effect: float | None

    @property
    def n(self) -> int:
        """Return the number of pairs."""
        return self.difference.n


def t_interval(values: Sequence[float]) -> Interval:
    """Return the mean of ``values`` (n,) with its 95 % Student t-interval.

    Equal values give a degenerate interval, low == high == mean.

    Raises:
        InvalidInputError: a value that is not finite.
    """
    values = [float(v) for v in values]
    n, quantile = len(values), _t_quantile(len(values))
    if not all(map(math.isfinite, values)):
        raise InvalidInputError(f"{values}: expected finite values; leave out failed runs")
    if n == 0:
        return Interval(0, None, None, None, None, f"none (n < {MIN_RUNS})")
    # Measured from the lowest value, so that equal values have exactly their mean and sd 0.
    origin = min(values)
    mean = origin + math.fsum([v - origin for v in values]) / n
    sd = math.sqrt(math.fsum([(v - mean) ** 2 for v in values]) / (n - 1)) if n > 1 else None
    if sd is None or n < MIN_RUNS:
        return Interval(n, mean, sd, None, None, f"none (n < {MIN_RUNS})")
    half = quantile * sd / math.sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half, f"t {100 * LEVEL:g}%")


def interval_of(values: Sequence[float], *, fixed: bool = False) -> Interval:
    """Return :func:`t_interval`; of a ``fixed`` method one value, and no interval to doubt it."""
    if not (fixed and values):
        return t_interval(values)
    return Interval(1, float(values[0]), None, None, None, FIXED)


def at_every_seed(runs: NDArray[np.float64], fixed: Sequence[bool]) -> NDArray[np.float64]:
    """Return ``runs`` (M, S) where a ``fixed`` method's first value holds at every seed.

    A paired comparison with such a row is the one-sample comparison of the other one's runs with
    a constant: their differences are its runs, moved.
    """
    found = runs.copy()
    for row in np.flatnonzero(fixed):
        known = runs[row][~np.isnan(runs[row])]
        found[row] = known[0] if len(known) else np.nan
    return found


def of_fixed(difference: float) -> Paired:
    """Return the comparison of two methods of which each has one run and no spread.

    Args:
        difference: of their values; NaN where one of them has none.
    """
    if math.isnan(difference):
        return Paired(Interval(0, None, None, None, None, FIXED), None, FIXED, None, None)
    interval = Interval(1, difference, None, None, None, FIXED)
    return Paired(interval, None, FIXED, 0.5 * (1 + float(np.sign(difference))), None)


def paired(
    a: Sequence[float],
    b: Sequence[float],
    *,
    rng: np.random.Generator | None = None,
) -> Paired:
    """Return how ``a`` (n,) compares with ``b`` (n,), entry i of both from the same seed.

    Args:
        a: values of one method.
        b: values of the other at the same seeds.
        rng: draws the sign flips beyond 20 pairs; not used up to there.

    Raises:
        InvalidInputError: unequal lengths, a value that is not finite, or no ``rng`` where
            one is needed.
    """
    if len(a) != len(b):
        raise InvalidInputError(
            f"{len(a)} and {len(b)} values: expected pairs. Keep the seeds that both have run"
        )
    runs = np.array([a, b], np.float64)
    if not np.isfinite(runs).all():
        raise InvalidInputError(f"{runs.tolist()}: expected finite values; leave out failed runs")
    flips = draw_flips(len(a), rng) if rng is not None and len(a) > EXACT_PAIRS else None
    return paired_all(runs, [(0, 1)], flips=flips)[0]


def paired_all(
    runs: NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
    *,
    flips: Signs | None = None,
) -> list[Paired]:
    """Return :func:`paired` for many pairs of methods at once, over the seeds both have.

    Args:
        runs: (M, S) value of each method at each seed, NaN where there is none.
        pairs: rows (a, b) of ``runs``.
        flips: (S, F) from :func:`draw_flips`; needed where a pair has more than 20 seeds.
            Shared by all pairs, so that a pair's p does not depend on the others asked for.

    Raises:
        InvalidInputError: an infinite value, or no ``flips`` where they are needed.
    """
    if np.isinf(runs).any():
        raise InvalidInputError("an infinite value: expected finite ones, NaN where there is none")
    gaps = [runs[a] - runs[b] for a, b in pairs]
    differences = [gap[~np.isnan(gap)].tolist() for gap in gaps]
    intervals = [t_interval(d) for d in differences]
    pvalues: list[float | None] = [None] * len(pairs)
    sizes: dict[int, list[int]] = {}
    for index, d in enumerate(differences):
        sizes.setdefault(len(d), []).append(index)
    for n in sizes.keys() & set(range(MIN_PAIRS, EXACT_PAIRS + 1)):
        of_size = [differences[index] for index in sizes[n]]
        found = _listed(of_size) if n <= LISTED_PAIRS else list(map(_exact, of_size))
        for index, p in zip(sizes[n], found, strict=True):
            pvalues[index] = p
    many = [index for index, d in enumerate(differences) if len(d) > EXACT_PAIRS]
    for index, p in zip(many, _drawn(runs, [pairs[i] for i in many], flips), strict=True):
        pvalues[index] = p
    return [_paired(*row) for row in zip(differences, intervals, pvalues, strict=True)]


def draw_flips(seeds: int, rng: np.random.Generator) -> Signs:
    """Return random signs (seeds, 9999); more seeds only add rows to the same generator's."""
    heads = rng.integers(0, 2, size=(seeds, DRAWN_FLIPS), dtype=np.int8)
    return np.where(heads, 1.0, -1.0)


def adjusted(p: Floats, family: int) -> Floats:
    """Return Holm's adjusted p-values along the last axis of ``p`` (..., K); NaN stays NaN.

    Args:
        p: what was tested.
        family: how many comparisons were declared. Those that were not tested count as the
            largest p: they cannot be rejected, and take nothing from the correction of others.
    """
    order = np.argsort(p, axis=-1)  # NaN last
    factors = family - np.arange(p.shape[-1])
    raised = np.minimum(np.take_along_axis(p, order, axis=-1) * factors, 1.0)
    found = np.empty_like(p)
    np.put_along_axis(found, order, np.maximum.accumulate(raised, axis=-1), axis=-1)
    return found


def holm(pvalues: Sequence[float | None], family: int | None = None) -> list[float | None]:
    """Return Holm's adjusted p-values, in the order given; None stays None.

    Args:
        pvalues: of the comparisons, None for one that was not tested.
        family: how many comparisons were declared; None for those that were tested.

    Raises:
        InvalidInputError: a p outside [0, 1], or a family smaller than what was tested.
    """
    tested = [p for p in pvalues if p is not None]
    if wrong := [p for p in tested if not 0 <= p <= 1]:
        raise InvalidInputError(f"p-value {wrong[0]}: expected a fraction in [0, 1]")
    if family is not None and family < len(tested):
        raise InvalidInputError(f"{len(tested)} p-values of a family of {family}: expected fewer")
    found = adjusted(np.array(tested, np.float64), len(tested) if family is None else family)
    values = iter(found.tolist())
    return [None if p is None else next(values) for p in pvalues]


@lru_cache
def _t_quantile(n: int) -> float:
    """Return the factor of the standard error at n - 1 degrees of freedom, NaN below 2."""
    return float(stdtrit(n - 1, (1 + LEVEL) / 2)) if n > 1 else math.nan


def _paired(differences: Sequence[float], interval: Interval, p: float | None) -> Paired:
    n = interval.n
    wins = sum([d > 0 for d in differences]) + 0.5 * sum([d == 0 for d in differences])
    effect = None
    if interval.mean is not None and interval.sd and interval.sd > TIE * abs(interval.mean):
        effect = interval.mean / interval.sd
    note = f"Monte Carlo ({DRAWN_FLIPS} flips)" if n > EXACT_PAIRS else ""
    if p is None:
        note = f"n = {n}: a sign-flip p needs {MIN_PAIRS} pairs to reach {ALPHA}"
    return Paired(interval, p, note, wins / n if n else None, effect)


def _listed(differences: Sequence[Sequence[float]]) -> list[float]:
    """Return :func:`_exact` of many comparisons (M, n) with the same few pairs.

    The first sign stays: flipping all of them mirrors the sums, so half of the flips tell.
    """
    found: list[float] = []
    for start in range(0, len(differences), 1024):
        block = np.array(differences[start : start + 1024])
        thresholds = np.array([_threshold(row) for row in block])
        sums = block[:, :1]
        for column in block.T[1:, :, None]:
            sums = np.concatenate([sums + column, sums - column], axis=1)
        above = np.count_nonzero(np.abs(sums) >= thresholds[:, None], axis=1)
        found += np.where(thresholds <= 0, 1.0, above / sums.shape[1]).tolist()
    return found


def _exact(differences: Sequence[float]) -> float:
    """Return the share of all 2^n sign flips whose sum is at least as far from 0.

    The sums of each half are listed and one half is sorted: 2 * 2^(n/2) numbers, not 2^n.
    """
    threshold = _threshold(np.array(differences))
    if threshold <= 0:
        return 1.0
    half = len(differences) // 2
    left, right = _sums(differences[:half]), np.sort(_sums(differences[half:]))
    above = right.size * left.size - int(np.searchsorted(right, threshold - left).sum())
    return float(2 * above / (left.size * right.size))  # flipping all signs mirrors the sums


def _sums(differences: Sequence[float]) -> NDArray[np.float64]:
    """Return the sums of all sign flips, (2^n,)."""
    sums = np.zeros(1)
    for d in differences:
        sums = np.concatenate([sums + d, sums - d])
    return sums


def _drawn(
    runs: NDArray[np.float64], pairs: Sequence[tuple[int, int]], flips: Signs | None
) -> Iterator[float]:
    """Yield each pair's p under the drawn flips, the signs as observed counted as one more."""
    if not pairs:
        return
    if flips is None:
        raise InvalidInputError(
            f"more than {EXACT_PAIRS} pairs are tested by random sign flips: pass rng to "
            "paired or flips to paired_all, for example from numpy.random.default_rng(0)"
        )
    values = np.nan_to_num(runs)
    totals = values @ flips  # (M, F): a pair's flipped sums are a difference of two rows
    sums = np.empty(totals.shape[1])  # filled anew for each pair, which is half the work
    for a, b in pairs:
        np.subtract(totals[a], totals[b], out=sums)
        gap = runs[a] - runs[b]
        alone = np.isnan(gap)  # seeds that only one of the two has, or none
        if alone.any():
            sums -= (values[a] - values[b])[alone] @ flips[alone]
        above = np.count_nonzero(np.abs(sums, out=sums) >= _threshold(gap[~alone]))
        yield (above + 1) / (DRAWN_FLIPS + 1)


def _threshold(differences: NDArray[np.float64]) -> float:
    """Return what the absolute sum of a flip must reach to be as far from 0 as observed."""
    return float(abs(differences.sum()) - TIE * np.abs(differences).sum())
