"""Where the mean of somebody else's runs must lie if they did what we did.

A confidence interval holds the truth; a published mean is not the truth but the mean of so many
runs. An exact repetition differs from ours by both means' noise.

Source: Hahn and Meeker, "Statistical Intervals", 1991 (prediction of a future sample mean).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtrit

from benchmark.statistics.paired import LEVEL, MIN_RUNS, ROPE, t_interval

Told = Literal["consistent", "different", "cannot tell"]
TOLD: tuple[Told, ...] = ("consistent", "different", "cannot tell")


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


def tell(ours: Prediction, theirs: float, error: float = 0.0, margin: float = ROPE) -> Told | None:
    """Return what our runs tell about another's mean; None where there is no interval.

    The interval of :func:`mean_of` holds the noise of both means. So it is also the confidence
    interval of the true difference, moved by our mean, and answers two questions:

    1. ``consistent``: all of it lies within the margin of equivalence of their mean. That is two
       one-sided tests at 2.5 %: where the truths are the margin or more apart it is said in at
       most 2.5 %, with any number of runs. It comes first, as in
       :func:`benchmark.statistics.verdicts.decide`: a difference may be certain and too small to
       matter.
    2. ``different``: their mean lies outside. An exact repetition is called so in at most 5 %.

    Anything else is ``cannot tell``. A mean that merely lies inside proves nothing: few runs make
    the interval so wide that another method's mean lies in it as well. With three runs and a
    standard deviation of 0.45 points, one that is a whole point away does in every second case.

    Args:
        ours: the interval.
        theirs: the other's mean.
        error: how far from ``theirs`` their mean may be, having been read off a chart. Both words
            need to hold wherever in that range it is.
        margin: half-width of the region of practical equivalence.
    """
    if ours.mean is None or ours.low is None or ours.high is None:
        return None
    half, gap = (ours.high - ours.low) / 2, abs(ours.mean - theirs)
    if gap + half + error <= margin:
        return "consistent"
    return "different" if gap > half + error else "cannot tell"
