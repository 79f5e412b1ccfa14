"""What comparisons say: p values under Holm's correction, intervals for a family, and a verdict.

A family is what was declared before any result was seen, for example every method against the
baseline. A comparison that could not be made counts as one that found nothing: it neither leaves
the family nor lightens the correction of the others.

Everything runs on arrays, so that the tables, ``plan --detect`` and the simulations that prove
the error rates go through the same lines.

Source: Student 1908 (paired t); Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
1979; Schuirmann, "A comparison of the two one-sided tests procedure", 1987 (equivalence); Dunn,
"Multiple Comparisons among Means", 1961 (intervals that hold together).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from benchmark.statistics import skewed
from benchmark.statistics.paired import (
    ALPHA,
    MIN_RUNS,
    ROPE,
    TIE,
    Paired,
    Signs,
    adjusted,
    at_every_seed,
    of_fixed,
    paired_all,
    t_interval,
)

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "not tested"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

VERDICTS: tuple[Verdict, ...] = ("better", "worse", "equivalent", "inconclusive", "not tested")
UNEQUAL_SPREAD = "unequal spread"


@dataclass(frozen=True)
class Evidence:
    """What the runs of a family's comparisons a - b show; arrays (..., K), NaN where unknown.

    Attributes:
        n: seeds that both have.
        mean, sd: of their differences; an sd of 0 says that all are the same.
        spread_a, spread_b: standard deviations of the runs of either at those seeds.
        own: (...,) from :func:`skewed.own_spread`.
        one_opponent: whether b is the same in all of them.
    """

    n: Ints
    mean: Floats
    sd: Floats
    spread_a: Floats
    spread_b: Floats
    own: Floats
    one_opponent: bool = True


@dataclass(frozen=True)
class Decision:
    """What follows from :class:`Evidence`; arrays (..., K), NaN where there is no such number.

    Attributes:
        marked: the spreads are so unequal that Student's t would be too bold.
        p: two-sided; of a marked comparison from a lognormal, else from Student's t.
        p_holm: adjusted over the family.
        p_equivalent: of a difference beyond the margin, adjusted over the family.
        half: half-width of the interval that holds together with all others of the family.
        code: index of the verdict in ``VERDICTS``.
        needs: seeds from which on there can be a verdict; 0 where there are enough.
    """

    marked: Bools
    p: Floats
    p_holm: Floats
    p_equivalent: Floats
    half: Floats
    code: Ints
    needs: Ints


@dataclass(frozen=True)
class Judged:
    """One comparison of a family, for tables; None where there is no such number.

    Attributes:
        paired: difference with its own interval, of the test that judges, and the sign-flip p.
        p_t: Student's two-sided p of the difference alone.
        mark: why Student's t was not trusted; empty where it was.
        p: of the difference alone, by the test that judges: a skewed t where there is a mark.
        p_holm: adjusted over the family; what the verdict is made from.
        p_equivalent: adjusted p of equivalence.
        low, high: interval that holds together with those of the whole family.
        kind: how that interval was made.
        family: how many comparisons were declared.
        verdict: None for a comparison outside the family.
        needs: seeds from which on there can be a verdict, where it is not tested.
    """

    paired: Paired
    p_t: float | None
    mark: str = ""
    p: float | None = None
    p_holm: float | None = None
    p_equivalent: float | None = None
    low: float | None = None
    high: float | None = None
    kind: str | None = None
    family: int | None = None
    verdict: Verdict | None = None
    needs: int | None = None


def decide(evidence: Evidence, family: int, rope: float = ROPE) -> Decision:
    """Return what the comparisons of one family say.

    In this order:

    1. fewer than three pairs, or differences all the same but too few of them: not tested;
    2. the adjusted p of equivalence at most 0.05: equivalent. This comes first because a
       difference may be certain and still too small to matter;
    3. ``p_holm`` at most 0.05: better or worse, by the sign of the mean;
    4. anything else: inconclusive.

    Differences and equivalence are two families of claims, each with at most 5 % false ones.

    Args:
        evidence: arrays (..., K); comparisons that could not be made may be left out.
        family: how many comparisons were declared, K or more.
        rope: half-width of the region of practical equivalence, in the metric's unit.
    """
    tested = evidence.n >= MIN_RUNS
    same = tested & (evidence.sd == 0)
    marked = (
        tested
        & ~same
        & skewed.unequal(
            evidence.spread_a, evidence.spread_b, evidence.own, one_opponent=evidence.one_opponent
        )
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        error = evidence.sd / np.sqrt(evidence.n)
        t, inside = evidence.mean / error, (rope - np.abs(evidence.mean)) / error
    # Differences all the same: only two sign flips reach their sum, so this is the sign-flip p.
    least = 0.5 ** (evidence.n - 1.0)
    p = np.where(same, np.where(evidence.mean == 0, 1.0, least), _p(t, evidence.n, marked))
    p_inside = np.where(
        same,
        np.where(np.abs(evidence.mean) < rope, least / 2, 1.0),
        _p_one_sided(inside, evidence.n, marked),
    )
    p, p_inside = (np.where(tested, value, np.nan) for value in (p, p_inside))
    p_holm, p_equivalent = adjusted(p, family), adjusted(p_inside, family)
    needs = np.where(tested, 0, MIN_RUNS)
    enough = 1 + math.ceil(math.log2(family / ALPHA)) if family else MIN_RUNS
    needs = np.where(same & (evidence.n < enough), enough, needs)
    code = np.select(
        [needs > 0, p_equivalent <= ALPHA, (p_holm <= ALPHA) & (evidence.mean > 0),
         p_holm <= ALPHA],
        [4, 2, 0, 1],
        3,
    )  # fmt: skip
    half = np.where(tested & ~same, _factor(evidence.n, marked, family) * error, np.nan)
    return Decision(marked, p, p_holm, p_equivalent, half, code.astype(np.int64), needs)


def judge(
    runs: Floats,
    pairs: Sequence[tuple[int, int]],
    declared: Sequence[bool],
    family: int,
    *,
    flips: Signs | None = None,
    fixed: Sequence[bool] = (),
    untested: Sequence[str] = (),
) -> list[Judged]:
    """Return what the comparisons of one table and metric say, in their order.

    Against a fixed method a comparison is one-sample. Its differences have the shape of the other
    method's noise alone, so in a family it is marked like any of unequal spread.

    Args:
        runs: (M, S) value of each method at each seed, NaN where there is none.
        pairs: rows (a, b) of ``runs``.
        declared: which of them belong to the family; the others get no verdict.
        family: how many were declared; those of methods that are not in ``runs`` included.
        flips: see :func:`benchmark.statistics.paired.paired_all`.
        fixed: which methods have one run that stands for all seeds; none where it is empty.
        untested: why each pair is not tested however many seeds there are, see
            :func:`benchmark.statistics.untested.reasons`; a pair without a reason has an empty
            text, and none has one where this is empty. A pair with a reason stays in the family,
            with the difference of what came through.
    """
    whole = at_every_seed(runs, fixed) if any(fixed) else runs
    results = paired_all(whole, pairs, flips=flips)
    for k, (a, b) in enumerate(pairs):
        if any(fixed) and fixed[a] and fixed[b]:
            results[k] = of_fixed(float(whole[a, 0] - whole[b, 0]))
    ours = [k for k, is_ours in enumerate(declared) if is_ours]
    found = [Judged(result, _p_alone(result)) for result in results]
    if ours:
        evidence = _evidence(whole, [pairs[k] for k in ours], [results[k] for k in ours])
        untold = np.array([bool(untested) and bool(untested[k]) for k in ours])
        decision = decide(replace(evidence, n=np.where(untold, 0, evidence.n)), family)
        decision.needs[untold] = 0  # no number of seeds would do
        for at, k in enumerate(ours):
            found[k] = _judged(results[k], decision, at, family)
    return found


def simulated_evidence(runs: Floats) -> Evidence:
    """Return the evidence of many studies at once, every method against the first.

    Args:
        runs: (..., M, S), the opponent first; no value missing.
    """
    gaps = runs[..., 1:, :] - runs[..., :1, :]
    spread = runs.std(axis=-1, ddof=1)
    mean, sd = gaps.mean(axis=-1), gaps.std(axis=-1, ddof=1)
    return Evidence(
        n=np.full(mean.shape, runs.shape[-1]),
        mean=mean,
        sd=np.where(sd <= TIE * np.abs(mean), 0.0, sd),
        spread_a=spread[..., 1:],
        spread_b=np.broadcast_to(spread[..., :1], mean.shape),
        own=skewed.own_spread(runs),
    )


def _evidence(
    runs: Floats, pairs: Sequence[tuple[int, int]], results: Sequence[Paired]
) -> Evidence:
    """Return the evidence of :func:`judge`, from exact sums."""
    spreads = np.full((2, len(pairs)), np.nan)
    for k, pair in enumerate(pairs):
        both = ~np.isnan(runs[pair[0]] - runs[pair[1]])
        for side, row in enumerate(pair):
            spreads[side, k] = _spread(runs[row, both].tolist())
    opponents = {b for _, b in pairs}
    own = np.array(np.nan)
    if len(opponents) == 1:
        order = [*opponents, *(a for a, _ in pairs)]
        there = ~np.isnan(runs[order[0]])
        whole = [row for row in order if not np.isnan(runs[row, there]).any()]
        own = skewed.own_spread(runs[whole][:, there])
    differences = [result.difference for result in results]
    return Evidence(
        n=np.array([d.n for d in differences], np.int64),
        mean=np.array([np.nan if d.mean is None else d.mean for d in differences]),
        sd=np.array([_sd(d.mean, d.sd) for d in differences]),
        spread_a=spreads[0],
        spread_b=spreads[1],
        own=own,
        one_opponent=len(opponents) == 1,
    )


def _judged(result: Paired, decision: Decision, k: int, family: int) -> Judged:
    difference, half = result.difference, _known(decision.half[k])
    low = high = kind = None
    if half is not None and difference.mean is not None:
        low, high = difference.mean - half, difference.mean + half
        shape = "skewed t" if decision.marked[k] else "t"
        kind = f"{shape} {100 * (1 - ALPHA):g}% together ({family} comparison{'s' * (family > 1)})"
    if decision.marked[k]:
        result = replace(result, difference=skewed.widened(difference))
    return Judged(
        paired=result,
        p_t=_p_alone(result),
        mark=UNEQUAL_SPREAD if decision.marked[k] else "",
        p=_known(decision.p[k]),
        p_holm=_known(decision.p_holm[k]),
        p_equivalent=_known(decision.p_equivalent[k]),
        low=low,
        high=high,
        kind=kind,
        family=family,
        verdict=VERDICTS[int(decision.code[k])],
        needs=int(decision.needs[k]) or None,
    )


def _p(t: Floats, n: Ints, marked: Bools) -> Floats:
    """Return the two-sided p of ``t``; a marked one is never below Student's."""
    student = np.asarray(2 * stdtr(np.maximum(n - 1, 1), -np.abs(t)))
    return _or_skewed(student, t, n, marked)


def _p_one_sided(t: Floats, n: Ints, marked: Bools) -> Floats:
    """Return the p of a true difference at the margin, ``t`` standard errors inside of it.

    A skewed one may have all of its tail on the side that matters, so it counts both sides.
    """
    student = np.asarray(stdtr(np.maximum(n - 1, 1), -t))
    return _or_skewed(student, t, n, marked & (t > 0))


def _or_skewed(student: Floats, t: Floats, n: Ints, marked: Bools) -> Floats:
    found = student.copy()
    if marked.any():
        found[marked] = np.maximum(student[marked], skewed.p_skewed(t[marked], n[marked]))
    return found


def _factor(n: Ints, marked: Bools, family: int) -> Floats:
    """Return how many standard errors the family's interval reaches to either side."""
    part = ALPHA / max(family, 1)
    found = np.asarray(stdtrit(np.maximum(n - 1, 1), 1 - part / 2), np.float64)
    for size in np.unique(n[marked]).tolist():
        at = marked & (n == size)
        found[at] = np.maximum(found[at], skewed.skewed_quantile(size, 1 - part))
    return found


def _p_alone(result: Paired) -> float | None:
    difference = result.difference
    sd = _sd(difference.mean, difference.sd)
    if difference.n < MIN_RUNS or difference.mean is None or sd == 0:
        return None
    t = difference.mean / (sd / math.sqrt(difference.n))
    return float(2 * stdtr(difference.n - 1, -abs(t)))


def _spread(values: list[float]) -> float:
    found = t_interval(values)
    return _sd(found.mean, found.sd)


def _sd(mean: float | None, sd: float | None) -> float:
    """Return a standard deviation, 0 where it is only rounding, NaN where there is none."""
    if mean is None or sd is None:
        return math.nan
    return 0.0 if sd <= TIE * abs(mean) else sd


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
