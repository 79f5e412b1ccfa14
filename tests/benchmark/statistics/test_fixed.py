"""A method of one run that stands for all seeds: what it is compared with is one-sample."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics import paired
from benchmark.statistics.verdicts import UNEQUAL_SPREAD, judge
from tests.simulate import NOISES, error

NAN = math.nan


def against(value, runs, **more):
    """Compare each row of ``runs`` with a fixed method of ``value``."""
    seeds = runs.shape[1]
    whole = np.vstack([[value, *[NAN] * (seeds - 1)], runs])
    pairs = [(k + 1, 0) for k in range(len(runs))]
    fixed = [True] + [False] * len(runs)
    return judge(whole, pairs, [True] * len(pairs), len(pairs), fixed=fixed, **more)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_difference_and_p_are_scipys_one_sample_t(seeds):
    rng = np.random.default_rng(seeds)
    runs = rng.normal(0.4, 0.004, (4, seeds))
    for row, found in zip(runs, against(0.398, runs), strict=True):
        theirs = stats.ttest_1samp(row, 0.398)
        ends = theirs.confidence_interval(0.95)
        difference = found.paired.difference
        assert found.p_t == pytest.approx(theirs.pvalue)
        # Its differences are the row's own noise, so the stricter test judges and gives the ends.
        assert (difference.n, difference.kind) == (seeds, "skewed t 95%")
        assert difference.low <= ends.low - 0.398
        assert difference.high >= ends.high - 0.398
    pairs, fixed = [(k + 1, 0) for k in range(4)], [True] + [False] * 4
    whole = np.vstack([[0.398, *[NAN] * (seeds - 1)], runs])
    for row, found in zip(runs, judge(whole, pairs, [False] * 4, 0, fixed=fixed), strict=True):
        ends = stats.ttest_1samp(row, 0.398).confidence_interval(0.95)
        difference = found.paired.difference
        assert (difference.n, difference.kind) == (seeds, "t 95%")
        assert difference.low == pytest.approx(ends.low - 0.398)
        assert difference.high == pytest.approx(ends.high - 0.398)


def test_a_missing_run_of_the_other_leaves_the_others():
    runs = np.array([[0.41, NAN, 0.43, 0.44]])
    (found,) = against(0.4, runs)
    theirs = stats.ttest_1samp([0.41, 0.43, 0.44], 0.4)
    assert (found.paired.n, found.p_t) == (3, pytest.approx(theirs.pvalue))


def test_two_fixed_methods_have_a_difference_and_nothing_to_doubt_it_with():
    runs = np.array([[0.30, NAN, NAN], [0.25, NAN, NAN], [NAN] * 3, [0.2, 0.3, 0.4]])
    pairs, fixed = [(0, 1), (0, 2), (3, 0)], [True, True, True, False]
    both, none, one = judge(runs, pairs, [False] * 3, 0, fixed=fixed)
    difference = both.paired.difference
    assert (difference.n, difference.kind) == (1, paired.FIXED)
    assert difference.mean == pytest.approx(0.05)
    assert (difference.low, difference.high, both.p_t, both.verdict) == (None,) * 4
    assert both.paired.probability == 1.0
    assert (none.paired.n, none.paired.difference.mean) == (0, None)
    assert one.paired.difference.mean == pytest.approx(0.0, abs=1e-12)
    declared = judge(runs, pairs[:1], [True], 1, fixed=fixed)[0]
    assert (declared.verdict, declared.needs) == ("not tested", paired.MIN_RUNS)


def test_a_single_run_that_stands_for_all_has_no_interval():
    assert paired.interval_of([0.3], fixed=True).kind == paired.FIXED
    repeated = paired.interval_of([0.3, 0.3, 0.3], fixed=True)
    assert (repeated.n, repeated.low, repeated.high) == (1, None, None)
    assert paired.interval_of([0.3, 0.3, 0.3]).low == 0.3
    assert paired.interval_of([], fixed=True).n == 0


def test_without_fixed_methods_nothing_moves():
    runs = np.random.default_rng(2).normal(0.4, 0.01, (3, 6))
    pairs = [(1, 0), (2, 0)]
    plain = judge(runs, pairs, [True, True], 2)
    assert judge(runs, pairs, [True, True], 2, fixed=[False] * 3) == plain


@pytest.mark.parametrize("noise", ["normal", "lognormal"])
@pytest.mark.parametrize("seeds", [5, 10])
def test_false_verdicts_against_a_constant_stay_below_five_per_cent(noise, seeds):
    count = 1500
    rng = np.random.default_rng(7)
    runs = 0.4 + 0.003 * NOISES[noise](rng, (count, seeds))
    found = [against(0.4, row[None])[0] for row in runs]
    assert all(one.mark == UNEQUAL_SPREAD for one in found)
    wrong = sum(one.verdict in ("better", "worse") for one in found) / count
    assert wrong <= 0.05 + 3 * error(0.05, count)
    # and a difference of six standard deviations is found
    (sure,) = against(0.4 - 0.018, runs[:1])
    assert sure.verdict == "better" or seeds == 5
