"""Where the mean of somebody else's runs must lie if they did what we did.

A confidence interval holds the truth; a published mean is not the truth but the mean of so many
runs. An exact repetition differs from ours by both means' noise.

Source: Hahn and Meeker, "Statistical Intervals", 1991 (prediction of a future sample mean).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from benchmark.statistics.paired import LEVEL, MIN_RUNS, t_interval


@dataclass(frozen=True)
class Prediction:
    """Our mean, and the interval for the mean of another's runs; None where there is none.

    Attributes:
        searches: how many searches the runs come from.
        runs: all of them.
        mean: over the searches' means, each counting once.
        low, high: ends; None below three runs of one search.
    """

    searches: int
    runs: int
    mean: float | None
    low: float | None
    high: float | None


def mean_of(groups: Sequence[Sequence[float]], runs: int) -> Prediction:
    """Return where the mean of ``runs`` further runs, all of one further search, must lie.

    Of n runs of one search, with mean m and standard deviation s:

        m ± t(n - 1) · s · sqrt(1 / n + 1 / runs).

    Normal runs of equal spread fall inside with 95 %, given the same search result: how far
    searches differ cannot be seen in one. Of H searches with n runs each, whose means have the
    variance b, that is in it:

        M ± t(H - 1) · sqrt(b · (1 / H + max(1, n / runs))).

    Exact where n is ``runs``, else a little wide: b holds s² / n, the other's mean s² / runs.

    Args:
        groups: values of the runs, grouped by search; empty groups are left out.
        runs: of the other side.
    """
    groups = [list(group) for group in groups if len(group)]
    means = t_interval([math.fsum(group) / len(group) for group in groups])
    count, total = len(groups), sum(map(len, groups))
    if count > 1:
        deviation, share = means.sd or 0.0, 1 / count + max(1.0, total / count / runs)
    else:
        own = t_interval(groups[0] if groups else [])
        if means.mean is None or own.sd is None or own.n < MIN_RUNS:
            return Prediction(count, total, means.mean, None, None)
        deviation, share = own.sd, 1 / own.n + 1 / runs
    freedom = (count if count > 1 else total) - 1
    mean = means.mean or 0.0
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * deviation * math.sqrt(share)
    return Prediction(count, total, mean, mean - half, mean + half)
