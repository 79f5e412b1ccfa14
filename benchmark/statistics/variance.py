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
        low, high = _share_interval(between / within, k, len(groups[0]))
    return Sources(k, total, mean, math.sqrt(search), math.sqrt(within), share, low, high)


def _share_interval(ratio: float, k: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the share from F = ``ratio`` of k searches of n runs."""
    upper, lower = (float(fdtri(k - 1, k * (n - 1), p)) for p in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    ends = ((f - 1) / (f + n - 1) for f in (ratio / upper, ratio / lower))
    low, high = (min(1.0, max(0.0, end)) for end in ends)
    return low, high
