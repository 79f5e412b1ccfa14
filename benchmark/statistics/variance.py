"""Where a cell's spread comes from: its searches or its seeds.

Source: the one-way random effects model, Searle, Casella and McCulloch, "Variance Components",
1992 (the analysis-of-variance estimator); Donner and Wells, "A Comparison of Confidence Interval
Methods for the Intraclass Correlation Coefficient", 1986 (its F interval, balanced data).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import fdtri

from benchmark.statistics.paired import LEVEL, TIE, Interval, t_interval


@dataclass(frozen=True)
class Sources:
    """The spread of final runs within and between repeated searches of one cell.

    Attributes:
        searches: how many have a run at least.
        runs: of all searches.
        mean: mean of the searches' means with its t-interval over searches; so, unlike other
            intervals, it is not conditional on one search.
        sd_search: between searches, without what seeds add to it; 0 if nothing is left.
        sd_seed: between seeds of one search.
        share: of the variance that is the search's; None if there is no variance at all.
        share_low, share_high: 95 % F interval, cut to [0, 1]; None unless every search has as
            many runs.
    """

    searches: int
    runs: int
    mean: Interval
    sd_search: float | None
    sd_seed: float | None
    share: float | None
    share_low: float | None
    share_high: float | None


@dataclass(frozen=True)
class Pooled:
    """How much more than a seed a search moves, over several cells.

    Attributes:
        cells: how many.
        ratio: standard deviation between searches, without what seeds add to it, over that
            between the seeds of one search; 0 if nothing is left.
        low, high: its 95 % interval, exact for one cell; None where a cell has no more than four
            degrees of freedom between its seeds, as two searches of three runs have.
    """

    cells: int
    ratio: float
    low: float | None
    high: float | None


def split(groups: Sequence[Sequence[float]]) -> Sources:
    """Return the sources of variance of runs grouped by the search whose setting they use.

    Searches without a run are left out. With fewer than two searches, or only one run in each,
    the two sources cannot be told apart and are None.
    """
    groups = [group for group in groups if len(group)]
    k, total = len(groups), sum(map(len, groups))
    mean = t_interval([_mean(g) for g in groups])
    if k < 2 or total == k:
        return Sources(k, total, mean, None, None, None, None, None)
    own = [_mean(g) for g in groups]
    grand = _mean([v for g in groups for v in g])
    between = math.fsum(len(g) * (m - grand) ** 2 for g, m in zip(groups, own, strict=True))
    within = math.fsum((v - m) ** 2 for g, m in zip(groups, own, strict=True) for v in g)
    between, within = _spread(between / (k - 1), grand), _spread(within / (total - k), grand)
    # runs in a search; exact where all searches have as many
    size = (total - sum(len(g) ** 2 for g in groups) / total) / (k - 1)
    search = max(0.0, (between - within) / size)
    share = search / (search + within) if search + within > 0 else None
    low = high = None
    if within > 0 and len(set(map(len, groups))) == 1:
        low, high = _share_interval(between / within, k, len(groups[0]))
    return Sources(k, total, mean, math.sqrt(search), math.sqrt(within), share, low, high)


def pooled(cells: Sequence[Sequence[Sequence[float]]]) -> Pooled | None:
    """Return the ratio of the two sources of variance, taken to be alike in all cells.

    The cells' own means and spreads may differ: each is measured by the spread of its own seeds.
    A median of the cells' own estimates would not do: with three searches half of them are cut to
    0 where a search adds as much as a third of what a seed does.

    Args:
        cells: the runs of each cell by search; a cell has two searches or more, and all searches
            of all cells have as many runs, two or more.

    Returns:
        None without a cell whose runs spread.
    """
    found = [one for one in map(_squares, cells) if one[1] > 0]
    if not found:
        return None
    (n,) = {len(group) for groups in cells for group in groups}
    between = sum(k - 1 for *_, k in found)
    mean = 0.0
    for own_between, own_within, k in found:
        free = max(k * (n - 1), 3)  # under F the mean is free / (free - 2), from three degrees on
        mean += (k - 1) / between * own_between / own_within * (free - 2) / free
    ratio, low, high = math.sqrt(max(0.0, (mean - 1) / n)), None, None
    if min(k for *_, k in found) * (n - 1) > 4:
        within = _matched(between, [(k - 1, k * (n - 1)) for *_, k in found])
        unbiased = mean * within / (within - 2)
        low, high = (
            math.sqrt(max(0.0, (unbiased / quantile - 1) / n))
            for quantile in _quantiles(between, within)
        )
    return Pooled(len(found), ratio, low, high)


def _matched(between: int, cells: Sequence[tuple[int, int]]) -> float:
    """Return the degrees of freedom within that an F of ``between`` has with the mean's variance.

    A mean of ratios with denominators of their own spreads more than one ratio of sums: at three
    searches of three runs in each of twelve cells the interval of the latter held 89 %, not 95.

    Args:
        between: degrees of freedom of all numerators together.
        cells: degrees of freedom of each ratio between and within, the latter above 4.
    """
    # The variance of F of (a, b) degrees over its squared mean is 2 (a + b - 2) / (a (b - 4)).
    spread = math.fsum((a / between) ** 2 * 2 * (a + b - 2) / (a * (b - 4)) for a, b in cells)
    return (2 * between - 4 + 4 * spread * between) / (spread * between - 2)


def _squares(groups: Sequence[Sequence[float]]) -> tuple[float, float, int]:
    """Return the mean squares between and within searches of n runs each, and their number."""
    k, n = len(groups), len(groups[0])
    own = [_mean(group) for group in groups]
    grand = _mean(own)
    between = n * math.fsum((mean - grand) ** 2 for mean in own) / (k - 1)
    within = math.fsum((v - m) ** 2 for g, m in zip(groups, own, strict=True) for v in g)
    return between, _spread(within / (k * (n - 1)), grand), k


def _spread(square: float, mean: float) -> float:
    """Return a mean square, 0 where nothing but rounding is in it."""
    return 0.0 if math.sqrt(square) <= TIE * abs(mean) else square


def _share_interval(ratio: float, k: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the share from F = ``ratio`` of k searches of n runs."""
    ends = ((f - 1) / (f + n - 1) for f in (ratio / q for q in _quantiles(k - 1, k * (n - 1))))
    low, high = (min(1.0, max(0.0, end)) for end in ends)
    return low, high


def _mean(values: Sequence[float]) -> float:
    """Return the mean, measured from the lowest so that equal values have exactly theirs."""
    origin = min(values)
    return origin + math.fsum(v - origin for v in values) / len(values)


def _quantiles(between: float, within: float) -> tuple[float, float]:
    """Return the upper and the lower end of what F has in 95 of 100 cases."""
    upper, lower = (float(fdtri(between, within, p)) for p in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return upper, lower
