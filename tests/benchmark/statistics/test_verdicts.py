"""Verdicts: against scipy and statsmodels, by hand, and their error rates by simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from benchmark.statistics import paired, skewed, verdicts
from benchmark.statistics.verdicts import VERDICTS, decide, judge, simulated_evidence
from benchmark.statistics.words import is_near_miss, spoken
from tests import simulate

WORD = dict(enumerate(VERDICTS))


def against_first(runs, family=None):
    methods = len(runs)
    pairs = [(m, 0) for m in range(1, methods)]
    return judge(np.array(runs), pairs, [True] * len(pairs), family or len(pairs))


def made(methods, seeds, rng, spread=0.004):
    return rng.normal(0.4, spread, (methods, seeds))


@pytest.mark.parametrize("seeds", [3, 6, 12])
def test_p_is_scipys_paired_t_under_statsmodels_holm(seeds):
    rng = np.random.default_rng(seeds)
    runs = made(6, seeds, rng) + rng.uniform(0, 0.02, (6, 1))
    found = [f for f in against_first(runs)]
    raw = [stats.ttest_rel(row, runs[0]).pvalue for row in runs[1:]]
    assert [f.p_t for f in found] == pytest.approx(raw)
    for each in found:
        assert each.p >= each.p_t if each.mark else each.p == pytest.approx(each.p_t)
    theirs = multipletests([f.p for f in found], method="holm")[1]
    assert [f.p_holm for f in found] == pytest.approx(theirs.tolist())


def test_equivalence_is_statsmodels_two_one_sided_tests_under_holm():
    rng = np.random.default_rng(5)
    runs = made(5, 10, rng, 0.003) + np.array([[0], [0], [0.002], [0.005], [0.02]])
    found = against_first(runs)
    assert not any(f.mark for f in found)
    raw = [ttost_paired(row, runs[0], -0.005, 0.005)[0] for row in runs[1:]]
    theirs = multipletests(raw, method="holm")[1]
    assert [f.p_equivalent for f in found] == pytest.approx(theirs.tolist())


def test_a_familys_intervals_are_bonferronis():
    runs = made(4, 8, np.random.default_rng(1))
    for row, found in zip(runs[1:], against_first(runs), strict=True):
        d = row - runs[0]
        low, high = stats.t.interval(1 - 0.05 / 3, 7, d.mean(), stats.sem(d))
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
        assert found.kind == "t 95% together (3 comparisons)"


def shifted(*shifts, seeds=10, spread=0.0015):
    """A baseline and methods that share a seed's part (sd 0.4 points) and spread alike."""
    shared = made(1, seeds, np.random.default_rng(0))
    own = np.random.default_rng(2).normal(0, spread, (1 + len(shifts), seeds))
    return list(shared + own + np.array([[0.0], *([s] for s in shifts)]))


def test_every_verdict():
    nothing = np.full(10, np.nan)
    two = np.where(np.arange(10) < 2, 0.5, np.nan)
    runs = shifted(0.02, -0.02, 0.0, 0.0, spread=0.001)
    runs[4] = runs[4] + np.random.default_rng(1).normal(0, 0.01, 10)
    found = against_first([*runs, nothing, two])
    said = ["better", "worse", "equivalent", "inconclusive", "not tested", "not tested"]
    assert [f.verdict for f in found] == said
    assert [f.needs for f in found] == [None, None, None, None, 3, 3]


def test_a_difference_may_be_certain_and_too_small_to_matter():
    (found,) = against_first(shifted(0.003, spread=0.0005))
    assert found.p_holm < 1e-6
    assert found.verdict == "equivalent"


def test_a_failed_comparator_does_not_shrink_the_family():
    runs = shifted(0.02, 0.02, 0.02)
    whole = against_first(runs)
    failed = against_first([*runs[:3], np.full(10, np.nan)])
    assert failed[2].verdict == "not tested"
    assert failed[0].p_holm >= whole[0].p_holm
    alone = against_first(runs[:2], family=3)
    assert alone[0].p_holm == pytest.approx(3 * alone[0].p_t)


def test_outside_the_family_there_is_a_p_and_no_verdict():
    runs = np.array(shifted(0.02, 0.03))
    inside, outside = judge(runs, [(1, 0), (2, 0)], [True, False], 1)
    assert (inside.verdict, inside.p_holm) == ("better", pytest.approx(inside.p_t))
    assert (outside.verdict, outside.p_holm, outside.low) == (None, None, None)
    assert outside.p_t == pytest.approx(stats.ttest_rel(runs[2], runs[0]).pvalue)


@pytest.mark.parametrize(("family", "needs"), [(1, 6), (14, 10)])
def test_differences_all_the_same_are_judged_by_their_signs(family, needs):
    """Without any spread there is no t: 2 / 2^n is all that n equal signs say."""
    for seeds in (3, needs - 1, needs):
        base = made(1, seeds, np.random.default_rng(seeds))[0]
        (found,) = against_first([base, base + 0.25], family)
        if seeds < needs:
            assert (found.verdict, found.needs) == ("not tested", needs)
        else:
            assert (found.verdict, found.p_holm) == ("better", family * 2 / 2**seeds)
        assert found.p_t is None


def test_twins_are_equivalent_once_there_are_enough_seeds():
    base = made(1, 8, np.random.default_rng(0))[0]
    (found,) = against_first([base, base])
    assert (found.verdict, found.p_holm, found.p_equivalent) == ("equivalent", 1.0, 2**-8)


def test_many_studies_at_once_are_each_study_alone():
    runs = simulate.studies(7, 8, 20, np.random.default_rng(3), noise="lognormal")
    decision = decide(simulated_evidence(runs), 6)
    for k, study in enumerate(runs):
        found = against_first(study)
        assert [f.verdict for f in found] == [WORD[c] for c in decision.code[k]]
        assert [f.p_holm for f in found] == pytest.approx(decision.p_holm[k].tolist())
        assert [bool(f.mark) for f in found] == decision.marked[k].tolist()


def test_swapping_two_methods_mirrors_the_verdict():
    runs = shifted(0.02)
    (there,), (back,) = against_first(runs), against_first(runs[::-1])
    assert (there.verdict, back.verdict) == ("better", "worse")
    assert there.p_holm == pytest.approx(back.p_holm)
    assert there.high == pytest.approx(-back.low)


# Unequal spread


def test_a_quiet_baseline_marks_all_its_comparisons():
    rng = np.random.default_rng(0)
    runs = np.concatenate([rng.normal(0.35, 0.0007, (1, 10)), rng.normal(0.3, 0.0179, (5, 10))])
    found = against_first(runs)
    assert {f.mark for f in found} == {"unequal spread"}
    assert all(f.p_holm > f.p_t for f in found)
    assert all(f.kind.startswith("skewed t") for f in found)
    wide = stats.t.ppf(1 - 0.005, 9) * np.std(runs[1] - runs[0], ddof=1) / math.sqrt(10)
    assert found[0].high - found[0].low > 2 * wide


def test_a_marked_difference_can_still_be_large_enough():
    rng = np.random.default_rng(0)
    runs = [rng.normal(0.35, 0.0007, 10), rng.normal(0.05, 0.0179, 10)]
    (found,) = against_first(runs)
    assert (found.mark, found.verdict) == ("unequal spread", "worse")


@pytest.mark.parametrize("seeds", [4, 10])
def test_a_marked_differences_interval_leaves_0_out_where_its_p_is_small(seeds):
    rng = np.random.default_rng(seeds)
    met = set()
    for shift in rng.uniform(0, 0.04, 40):
        runs = [rng.normal(0.35, 0.0007, seeds), rng.normal(0.35 + shift, 0.0179, seeds)]
        (found,) = against_first(runs)
        if not found.mark:  # four runs can lie close together by chance
            continue
        own = found.paired.difference
        student = stats.ttest_1samp(runs[1] - runs[0], 0).confidence_interval()
        assert own.low <= student.low + 1e-12
        assert own.high >= student.high - 1e-12
        assert own.kind == "skewed t 95%"
        assert (own.low, own.high) == pytest.approx((found.low, found.high))  # a family of one
        if abs(found.p - 0.05) > 0.002:
            met.add(found.p < 0.05)
            assert (own.low > 0 or own.high < 0) == (found.p < 0.05)
    assert met == {True, False}


def test_one_odd_method_marks_itself_alone():
    rng = np.random.default_rng(0)
    runs = rng.normal(0.4, 0.004, (7, 10))
    runs[3] = rng.normal(0.4, 0.05, 10)
    assert [bool(f.mark) for f in against_first(runs)] == [False, False, True, *[False] * 3]


def test_a_shared_seed_effect_hides_no_quiet_baseline_in_a_family():
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 0.02, 10)
    runs = 0.4 + shared + rng.normal(0, 1, (9, 10)) * np.array([[0.0005], *[[0.012]] * 8])
    spreads = runs.std(axis=1, ddof=1)
    assert spreads[1:].max() / spreads[0] < 2  # the runs alone do not show it
    assert all(f.mark for f in against_first(runs))


def test_the_skewed_p_is_the_share_of_a_simulation():
    rng = np.random.default_rng(9)
    draws = np.exp(rng.normal(0, 1, (200_000, 6))) - math.exp(0.5)
    t = stats.ttest_1samp(draws, 0, axis=1).statistic
    for value in (1.0, 3.0, 8.0):
        mine = skewed.p_skewed(np.array([value]), np.array([6]))[0]
        assert mine == pytest.approx((np.abs(t) >= value).mean(), rel=0.05)
    assert skewed.skewed_quantile(6, 0.95) == pytest.approx(np.quantile(np.abs(t), 0.95), rel=0.03)


def test_the_skewed_p_falls_with_t_and_is_above_students():
    t = np.linspace(0.1, 60, 200)
    p = skewed.p_skewed(t, np.full(200, 8))
    assert np.all(np.diff(p) <= 0)
    assert np.all(p[t > 2] > 2 * stats.t.sf(t[t > 2], 7))


# Error rates: a reduced version of tests/measure_statistics.py

COUNT = 2_000  # standard error 0.5 % at 6 %
CELLS = [
    ("alike", "normal", 2, 10),
    ("alike", "lognormal", 15, 4),
    ("alike, seeds shared", "exponential", 5, 6),
    ("alike, seeds shared", "normal", 15, 12),
    ("quiet baseline", "exponential", 15, 10),
    ("quiet baseline", "lognormal", 2, 6),
    ("quiet baseline", "lognormal", 15, 10),
    ("noisy baseline", "lognormal", 5, 3),
]


@pytest.mark.parametrize(("spread", "noise", "methods", "seeds"), CELLS)
def test_equal_methods_are_rarely_called_better_or_worse(spread, noise, methods, seeds):
    rng = np.random.default_rng(8)
    spread = simulate.SPREADS[spread]
    found = simulate.false_verdicts(methods, seeds, COUNT, rng, noise=noise, spread=spread)
    assert found.verdict <= 0.06 + 2 * simulate.error(0.06, COUNT)
    assert found.verdict > 0  # so it can fail


def test_without_the_mark_a_quiet_baseline_would_be_called_in_most_families():
    spread = simulate.SPREADS["quiet baseline"]
    rng = np.random.default_rng(8)
    found = simulate.false_verdicts(15, 10, COUNT, rng, noise="lognormal", spread=spread)
    assert found.unmarked_t > 0.5
    assert found.marked > 0.99


@pytest.mark.parametrize(
    ("spread", "noise", "methods"),
    [
        ("alike", "normal", 2),
        ("alike, seeds shared", "normal", 15),
        ("quiet baseline", "lognormal", 5),
    ],
)
def test_methods_at_the_edge_of_the_margin_are_rarely_called_equivalent(spread, noise, methods):
    small = simulate.SPREADS[spread].scaled(1 / 6)
    rng = np.random.default_rng(8)
    share = simulate.false_equivalence(methods, 8, COUNT, rng, noise=noise, spread=small)
    assert 0 < share <= 0.05 + 2 * simulate.error(0.05, COUNT)


def test_a_true_point_is_called_among_fourteen_methods_at_ten_seeds():
    called, by_t_alone = simulate.found(15, 10, 1.0, 0.55, COUNT, np.random.default_rng(8))
    assert called > 0.88
    assert by_t_alone - called < 0.03


def test_looking_again_and_again_calls_more_than_is_there():
    once, ever = simulate.looked_at(5, 6, 14, COUNT, np.random.default_rng(8))
    assert once < 0.05 + 2 * simulate.error(0.05, COUNT)
    assert ever > 1.7 * once


# Words


def test_verdicts_as_words():
    assert spoken("not tested", 6) == "not tested (needs 6 seeds)"
    assert spoken("not tested", None, "both untrained") == "not tested (both untrained)"
    assert spoken("better") == "better"
    assert is_near_miss("inconclusive", 0.07)
    assert not is_near_miss("inconclusive", 0.3)
    assert not is_near_miss("better", 0.04)
    assert not is_near_miss("not tested", None)


def test_all_pairs_are_marked_each_by_itself():
    rng = np.random.default_rng(0)
    runs = np.concatenate([rng.normal(0.4, 0.004, (2, 12)), rng.normal(0.4, 0.03, (1, 12))])
    found = judge(runs, [(0, 1), (0, 2), (1, 2)], [True] * 3, 3)
    assert [bool(f.mark) for f in found] == [False, True, True]


def test_sign_flips_stand_beside_the_verdict():
    runs = np.array(shifted(0.02))
    (found,) = against_first(runs)
    assert found.paired.p == paired.paired(runs[1], runs[0]).p == 2 / 2**10
    assert verdicts.UNEQUAL_SPREAD == "unequal spread"


def test_differences_all_alike_have_no_interval_of_t_in_the_family():
    base = [0.25, 0.5, 0.375]
    (few,) = against_first([base, [v + 0.25 for v in base]])
    assert (few.verdict, few.needs, few.p_t) == ("not tested", 6, None)
    assert (few.low, few.high, few.kind) == (None, None, None)
