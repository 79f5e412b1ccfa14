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

from benchmark.statistics.paired import LEVEL, Interval, t_interval


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
    """The spread within and between the searches of several cells, pooled.

    Attributes:
        cells: how many.
        sd_search: between searches of a cell, without what seeds add to it; 0 if nothing is left.
        sd_seed: between seeds of one search.
        low, high: the values of ``sd_search`` that follow from the exact 95 % interval of the
            search's share in the variance, with ``sd_seed`` as it was measured.
    """

    cells: int
    sd_search: float
    sd_seed: float
    low: float
    high: float


def split(groups: Sequence[Sequence[float]]) -> Sources:
    """Return the sources of variance of runs grouped by the search whose setting they use.

    Searches without a run are left out. With fewer than two searches, or only one run in each,
    the two sources cannot be told apart and are None.
    """
    groups = [group for group in groups if len(group)]
    k, total = len(groups), sum(map(len, groups))
    mean = t_interval([math.fsum(g) / len(g) for g in groups])
    if k < 2 or total == k:
        return Sources(k, total, mean, None, None, None, None, None)
    own = [math.fsum(g) / len(g) for g in groups]
    grand = math.fsum(v for g in groups for v in g) / total
    between = math.fsum(len(g) * (m - grand) ** 2 for g, m in zip(groups, own, strict=True))
    within = math.fsum((v - m) ** 2 for g, m in zip(groups, own, strict=True) for v in g)
    between, within = between / (k - 1), within / (total - k)
    # runs in a search; exact where all searches have as many
    size = (total - sum(len(g) ** 2 for g in groups) / total) / (k - 1)
    search = max(0.0, (between - within) / size)
    share = search / (search + within) if search + within > 0 else None
    low = high = None
    if within > 0 and len(set(map(len, groups))) == 1:
        low, high = _share_interval(between / within, k - 1, total - k, len(groups[0]))
    return Sources(k, total, mean, math.sqrt(search), math.sqrt(within), share, low, high)


def pooled(cells: Sequence[Sequence[Sequence[float]]]) -> Pooled | None:
    """Return the sources of variance within several cells, taken to be alike in all of them.

    A median of each cell's own estimates would not do: with three searches half of them are cut
    to 0 where a search adds as much as a third of what a seed does.

    Args:
        cells: the runs of each cell by search; all searches have as many, two at least, and each
            cell has two searches or more. Means of cells may differ.

    Returns:
        None without a cell, or without any spread.
    """
    if not cells:
        return None
    (n,) = {len(group) for groups in cells for group in groups}
    between = within = 0.0
    free_between = free_within = 0
    for groups in cells:
        own = [math.fsum(group) / n for group in groups]
        grand = math.fsum(own) / len(own)
        between += n * math.fsum((mean - grand) ** 2 for mean in own)
        squares = ((v - m) ** 2 for g, m in zip(groups, own, strict=True) for v in g)
        within += math.fsum(squares)
        free_between += len(groups) - 1
        free_within += len(groups) * (n - 1)
    between, within = between / free_between, within / free_within
    if not within:
        return None
    ends = _share_interval(between / within, free_between, free_within, n)
    low, high = (math.sqrt(within * s / (1 - s)) if s < 1 else math.inf for s in ends)
    search = math.sqrt(max(0.0, (between - within) / n))
    return Pooled(len(cells), search, math.sqrt(within), low, high)


def _share_interval(
    ratio: float, free_between: int, free_within: int, n: int
) -> tuple[float, float]:
    """Return the exact 95 % interval of the share from F = ``ratio`` and its degrees of freedom.

    n is the number of runs of a search.
    """
    levels = ((1 + LEVEL) / 2, (1 - LEVEL) / 2)
    upper, lower = (float(fdtri(free_between, free_within, p)) for p in levels)
    ends = ((f - 1) / (f + n - 1) for f in (ratio / upper, ratio / lower))
    low, high = (min(1.0, max(0.0, end)) for end in ends)
    return low, high
