"""How many seeds a difference needs: against statsmodels, posteriors and plain simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from benchmark.statistics import power


def pilot_of(methods, seeds, sd=0.0055, rng=0):
    """A pilot whose runs all spread alike: differences have standard deviation ``sd``."""
    draw = np.random.default_rng(rng).normal(0.4, sd / np.sqrt(2), (methods + 1, seeds))
    base, *others = [dict(enumerate(row.tolist())) for row in draw]
    return power.pilot(others, base, methods), others, base


def exact(sd, family, methods=1):
    """A pilot so large that nothing is left open: each run's own sd is ``sd`` / sqrt(2)."""
    many = 100_000
    own, ones = many * sd**2 / 2, np.ones(methods)
    freedom = (many * ones).astype(int)
    return power.Pilot(family, freedom, own, many, 0 * ones, own * ones, own * ones)


@pytest.mark.parametrize(("seeds", "family"), [(6, 1), (10, 1), (10, 14)])
def test_with_known_spread_the_chance_is_the_paired_t_tests(seeds, family):
    """The mark for unequal spread costs a little, with few seeds more."""
    found = power.chances(exact(0.0055, family, family), 0.01, seeds, 4_000 // family)[0]
    theirs = TTestPower().power(0.01 / 0.0055, seeds, 0.05 / family)
    assert theirs - 0.12 <= found <= theirs + 0.02
    if seeds == 10:
        assert found >= theirs - 0.05


def test_ten_seeds_call_one_point_among_fourteen():
    found = power.chances(exact(0.0055, 14, 14), 0.01, 10, 1_000)
    assert np.all(found > 0.87)  # 92.5 % by paired t and Holm without the mark


def test_fewer_chances_with_a_larger_family_and_more_with_seeds():
    small, large = (power.chances(exact(0.0055, n), 0.01, 8, 2_000)[0] for n in (1, 14))
    assert large < small
    assert power.chances(exact(0.0055, 14), 0.01, 16, 2_000)[0] > large


def test_the_fewest_seeds_that_do():
    known = exact(0.0055, 4)
    (seeds,) = power.seeds_for(known, 0.01)
    assert power.chances(known, 0.01, seeds)[0] >= 0.8
    assert power.chances(known, 0.01, seeds - 1)[0] < 0.8


def test_what_nobody_would_run_is_not_counted():
    assert power.seeds_for(exact(0.05, 1), 0.006) == [None]


def test_a_small_pilot_asks_for_more_seeds_than_its_spread_alone():
    known, _, _ = pilot_of(1, 4, rng=3)
    sd = np.sqrt(known.rest[0] / 3 + (known.slope[0] - 1) ** 2 * known.known[0] / 3)
    (asked,), (sure,) = power.seeds_for(known, 0.01), power.seeds_for(exact(sd, 1), 0.01)
    assert asked > sure


def test_inside_the_margin_the_right_verdict_is_equivalent():
    known = exact(0.001, 1)
    assert power.chances(known, 0.0, 8)[0] > 0.95
    assert power.chances(known, 0.0049, 8)[0] < 0.1


def test_drawn_spreads_have_the_chi_square_posterior():
    known, (own,), base = pilot_of(1, 5)
    d = np.array([own[s] - base[s] for s in base])
    runs = power._draw(known, 400, 3_000, np.random.default_rng(1))
    drawn = (runs[:, 1] - runs[:, 0]).var(axis=1, ddof=1)
    expected = stats.invgamma(2, scale=2 * d.var(ddof=1))  # 4 degrees of freedom
    for q in (0.1, 0.5, 0.9):
        assert np.quantile(drawn, q) == pytest.approx(expected.ppf(q), rel=0.12)


def test_the_pilots_deviation_has_the_chi_square_interval():
    sd, low, high = power.spread([0.004, -0.002, 0.001, 0.003, -0.006])
    assert sd == pytest.approx(np.std([0.004, -0.002, 0.001, 0.003, -0.006], ddof=1))
    assert low**2 == pytest.approx(4 * sd**2 / stats.chi2.ppf(0.975, 4))
    assert high**2 == pytest.approx(4 * sd**2 / stats.chi2.ppf(0.025, 4))


def test_of_three_pairs_little_is_known():
    sd, low, high = power.spread([0.01, 0.02, 0.0])
    assert (low / sd, high / sd) == (pytest.approx(0.52, abs=0.01), pytest.approx(6.28, abs=0.01))


def test_a_baseline_without_spread_can_be_planned_with():
    base = dict.fromkeys(range(4), 0.4)
    known = power.pilot([{0: 0.41, 1: 0.42, 2: 0.415, 3: 0.412}], base, 1)
    (seeds,) = power.seeds_for(known, 0.05)
    assert 3 <= seeds < 100
    # Its own spread has the chi-square posterior of its three degrees of freedom.
    drawn = power._draw(known, 300, 4000, np.random.default_rng(0))[:, 1]
    squares = 3 * np.var([0.41, 0.42, 0.415, 0.412], ddof=1)
    assert np.median(drawn.var(axis=1, ddof=1)) == pytest.approx(
        squares / stats.chi2.ppf(0.5, 3), rel=0.05
    )
