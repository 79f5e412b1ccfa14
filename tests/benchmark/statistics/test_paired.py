"""Intervals and paired tests: by hand, against scipy and statsmodels, by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmark.statistics import paired as statistics
from benchmark.statistics.paired import Interval, holm, paired, paired_all, t_interval
from protocols.errors import InvalidInputError
from tests import simulate

fractions = st.floats(0, 1, allow_subnormal=False)
samples = st.lists(fractions, min_size=3, max_size=12)
pairs = st.integers(6, 12).flatmap(
    lambda n: st.tuples(*(st.lists(fractions, min_size=n, max_size=n) for _ in "ab"))
)
pvalues = st.lists(st.none() | fractions, max_size=12)


def test_an_interval_worked_by_hand():
    found = t_interval([0.40, 0.42, 0.44])
    assert (found.n, found.kind) == (3, "t 95%")
    assert found.mean == pytest.approx(0.42)
    assert found.sd == pytest.approx(0.02)
    half = 4.30265 * 0.02 / math.sqrt(3)
    assert (found.low, found.high) == (pytest.approx(0.42 - half), pytest.approx(0.42 + half))


@pytest.mark.parametrize("n", [3, 4, 10, 100])
def test_the_interval_is_scipys(n):
    values = np.random.default_rng(n).normal(0.4, 0.01, n)
    found = t_interval(values)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))
    assert found.sd == pytest.approx(values.std(ddof=1))
    assert found.kind == "t 95%"


def test_below_three_values_there_is_no_interval():
    kind = "none (n < 3)"
    assert t_interval([]) == Interval(0, None, None, None, None, kind)
    assert t_interval([0.4]) == Interval(1, 0.4, None, None, None, kind)
    two = t_interval([0.4, 0.6])
    assert (two.n, two.mean, two.low, two.high, two.kind) == (2, 0.5, None, None, kind)
    assert two.sd == pytest.approx(math.sqrt(0.02))


@given(fractions, st.integers(3, 50))
def test_equal_values_give_exactly_that_value(value, n):
    found = t_interval([value] * n)
    assert (found.mean, found.sd, found.low, found.high) == (value, 0, value, value)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_nineteen_of_twenty_intervals_hold_the_truth(n):
    cells, level = 20_000, 0.95
    values = np.random.default_rng(7).normal(0.4, 0.01, (cells, n)).tolist()
    found = [t_interval(row) for row in values]
    coverage = sum(i.low <= 0.4 <= i.high for i in found) / cells
    assert abs(coverage - level) < 4 * math.sqrt(level * (1 - level) / cells)


def test_folds_are_not_replications():
    share = simulate.fold_level_false(5, 4, 1_000, np.random.default_rng(9))
    assert share > 0.15  # of nominal 5 %: why a run is the unit


@given(samples, st.floats(-5, 5), st.floats(0.01, 100))
def test_the_interval_shifts_and_scales_with_its_values(values, shift, scale):
    before = t_interval(values)
    after = t_interval([scale * v + shift for v in values])
    close = {"rel": 1e-9, "abs": 1e-9}
    assert after.mean == pytest.approx(scale * before.mean + shift, **close)
    assert after.sd == pytest.approx(scale * before.sd, **close)
    assert after.low == pytest.approx(scale * before.low + shift, **close)
    assert after.high == pytest.approx(scale * before.high + shift, **close)


@given(samples, st.randoms())
def test_the_order_of_the_runs_changes_no_bit(values, random):
    shuffled = random.sample(values, len(values))
    assert t_interval(shuffled) == t_interval(values)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused(bad):
    with pytest.raises(InvalidInputError, match="finite"):
        t_interval([0.1, bad, 0.3])
    with pytest.raises(InvalidInputError, match="finite"):
        paired([0.1, bad], [0.1, 0.2])
    with pytest.raises(InvalidInputError, match="finite"):
        paired_all(np.array([[0.1, math.inf], [0.1, 0.2]]), [(0, 1)])


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5, 6], 2 / 64),  # nothing is further out than all one way
        ([1, 1, 1, 1, 1, -1], 14 / 64),  # at most one against: (1 + 6) flips on either side
        ([1, 1, 1, -1, -1, -1], 1),
        ([0, 0, 0, 0, 0, 0], 1),
        ([0, 1, 1, 1, 1, 1], 4 / 64),  # flipping the zero changes nothing
    ],
)
def test_sign_flips_counted_by_hand(differences, p):
    found = paired(differences, [0] * 6)
    assert (found.p, found.p_note, found.n) == (p, "", 6)


@pytest.mark.parametrize("n", [6, 7, 10, 13, 16])
def test_the_exact_p_is_scipys(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.41, 0.01, n), rng.normal(0.4, 0.01, n)
    expected = stats.permutation_test(
        (a - b,), lambda d, axis: d.mean(axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    assert paired(a, b).p == pytest.approx(expected.pvalue, rel=1e-12)


def test_ties_count_as_reached_despite_rounding():
    # Ten queries more or fewer of 1,000: fractions whose differences do not round alike.
    a, b = [0.31, 0.47, 0.53, 0.29, 0.83, 0.71, 0.1], [0.3, 0.46, 0.54, 0.28, 0.82, 0.7, 0.11]
    steps = [1, 1, -1, 1, 1, 1, -1]
    assert paired(a, b).p == paired(steps, [0] * 7).p == 2 * (1 + 7 + 21) / 128


def test_twenty_pairs_are_exact_and_need_no_generator():
    found = paired([0.5] * 20, [0.4] * 20)
    assert (found.p, found.p_note) == (2 / 2**20, "")


def test_beyond_twenty_pairs_flips_are_drawn():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.402, 0.01, 40), rng.normal(0.4, 0.01, 40)
    found = paired(a, b, rng=np.random.default_rng(0))
    assert found.p_note == "Monte Carlo (9999 flips)"
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.03)
    assert found.p == paired(a, b, rng=np.random.default_rng(0)).p
    assert paired(a + 1, b, rng=np.random.default_rng(0)).p == 1 / 10_000
    with pytest.raises(InvalidInputError, match="pass rng"):
        paired(a, b)


def test_drawn_and_counted_flips_agree(monkeypatch):
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.405, 0.01, 12), rng.normal(0.4, 0.01, 12)
    exact = paired(a, b).p
    monkeypatch.setattr(statistics, "EXACT_PAIRS", 11)
    drawn = paired(a, b, rng=np.random.default_rng(0)).p
    assert abs(drawn - exact) < 4 * math.sqrt(exact * (1 - exact) / 9_999)


@pytest.mark.parametrize("n", range(6))
def test_below_six_pairs_there_is_no_p(n):
    found = paired([0.5] * n, [0.4] * n)
    assert found.p is None
    assert found.p_note == f"n = {n}: a sign-flip p needs 6 pairs to reach 0.05"
    assert found.probability == (1.0 if n else None)


def test_a_comparison_worked_by_hand():
    found = paired([0.5, 0.4, 0.3, 0.6], [0.4, 0.4, 0.4, 0.4])
    assert found.difference.mean == pytest.approx(0.05)
    assert found.difference.sd == pytest.approx(math.sqrt(0.05 / 3))
    assert found.probability == (2 + 0.5) / 4
    assert found.effect == pytest.approx(0.05 / math.sqrt(0.05 / 3))


def test_without_spread_there_is_no_effect_size():
    assert paired([0.5] * 3, [0.25] * 3).effect is None
    assert paired([0.3, 0.2, 0.9], [0.25, 0.15, 0.85]).effect is None  # rounding is no spread
    assert paired([0.5], [0.25]).effect is None


def test_pairs_have_two_sides():
    with pytest.raises(InvalidInputError, match="3 and 2 values: expected pairs"):
        paired([1, 2, 3], [1, 2])


@given(pairs)
def test_swapping_the_methods_mirrors_the_comparison(both):
    a, b = both
    there, back = paired(a, b), paired(b, a)
    assert there.p == back.p
    assert there.probability == pytest.approx(1 - back.probability)
    close = {"rel": 1e-9, "abs": 1e-12}
    assert there.difference.mean == pytest.approx(-back.difference.mean, **close)
    assert there.difference.low == pytest.approx(-back.difference.high, **close)


@given(pairs)
def test_a_p_is_a_share_of_all_flips(both):
    p = paired(*both).p
    assert 2 / 2 ** len(both[0]) <= p <= 1


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_many_pairs_at_once_are_each_pair_alone(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    seeds = data.draw(st.sampled_from([8, 30]))
    runs = rng.normal(0.4, 0.01, (4, seeds))
    runs[rng.random(runs.shape) < 0.1] = np.nan
    flips = statistics.draw_flips(seeds, np.random.default_rng(0))
    together = paired_all(runs, [(0, 1), (2, 3), (3, 0)], flips=flips)
    assert together[1] == paired_all(runs[2:], [(0, 1)], flips=flips)[0]
    common = ~np.isnan(runs[0] - runs[1])
    alone = paired(runs[0, common], runs[1, common], rng=np.random.default_rng(0))
    assert together[0].difference == alone.difference
    if common.sum() > 20:  # other seeds, other signs: equal but for the drawing
        assert together[0].p == pytest.approx(alone.p, abs=0.03)
    else:
        assert together[0].p == alone.p


def test_more_seeds_leave_the_drawn_signs_of_the_first_as_they_were():
    few, many = (statistics.draw_flips(n, np.random.default_rng(0)) for n in (25, 60))
    assert np.array_equal(few, many[:25])
    assert set(np.unique(many)) == {-1.0, 1.0}


def test_holm_worked_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_was_declared_and_not_tested_counts_as_the_largest_p():
    assert holm([None, 0.01, None, 0.04], family=4) == pytest.approx([None, 0.04, None, 0.12])
    assert holm([0.01], family=14) == [0.14]
    both = multipletests([0.01, 0.04, 1.0, 1.0], method="holm")[1]
    assert holm([0.01, 0.04], family=4) == pytest.approx(both[:2].tolist())
    with pytest.raises(InvalidInputError, match="2 p-values of a family of 1"):
        holm([0.1, 0.2], family=1)


def test_many_families_at_once_are_each_family_alone():
    p = np.random.default_rng(4).random((20, 6))
    p[3, 2] = np.nan
    for row, found in zip(p, statistics.adjusted(p, 6), strict=True):
        known = [None if math.isnan(v) else v for v in row.tolist()]
        assert [None if math.isnan(v) else v for v in found.tolist()] == holm(known, family=6)


def test_without_a_declared_family_what_was_not_tested_is_not_counted():
    assert holm([None, 0.01, None, 0.04]) == [None, 0.02, None, 0.04]
    assert holm([None]) == [None]


@pytest.mark.parametrize("m", [1, 2, 7, 30])
def test_holm_is_statsmodels(m):
    raw = (np.random.default_rng(m).integers(0, 65, m) / 64).tolist()  # with ties
    assert holm(raw) == pytest.approx(multipletests(raw, method="holm")[1].tolist())


@given(pvalues)
def test_holm_keeps_the_order_and_never_lowers_a_p(raw):
    adjusted = holm(raw)
    tested = sorted((p, q) for p, q in zip(raw, adjusted, strict=True) if p is not None)
    assert all(p <= q <= 1 for p, q in tested)
    assert [q for _, q in tested] == sorted(q for _, q in tested)
    assert [q is None for q in adjusted] == [p is None for p in raw]


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_a_p_is_a_fraction(bad):
    with pytest.raises(InvalidInputError, match="p-value"):
        holm([0.1, bad])
