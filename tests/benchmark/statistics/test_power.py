"""How many seeds a difference needs: against statsmodels, tables and simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from benchmark.statistics.power import needed, pairs_for, power
from protocols.errors import InvalidInputError
from tests import simulate


@pytest.mark.parametrize("n", [2, 3, 6, 20, 100])
@pytest.mark.parametrize("effect", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_power_is_statsmodels(n, effect, alpha):
    theirs = TTestPower().power(effect, n, alpha)
    if not math.isnan(theirs):  # its lower tail is, far from 0
        assert power(n, effect, alpha) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(
    ("effect", "pairs"), [(0.5, 34), (0.8, 15), (1.0, 10), (1.5, 6), (2.0, 6), (math.inf, 6)]
)
def test_pairs_for_eighty_per_cent(effect, pairs):
    assert pairs_for(effect) == pairs  # at 2.0 five would do, but have no p


@pytest.mark.parametrize("comparisons", [1, 4, 20])
def test_the_fewest_pairs_that_do(comparisons):
    part, last = 0.05 / comparisons, 10**9
    for effect in 0.06 * 1.25 ** np.arange(25):
        n = pairs_for(float(effect), comparisons=comparisons)
        assert n <= last
        last = n
        assert power(n, min(float(effect), 10), part) >= 0.8
        assert 2 / 2**n <= part
        assert n == 6 or 2 / 2 ** (n - 1) > part or power(n - 1, float(effect), part) < 0.8


def test_what_nobody_would_run_is_not_counted():
    assert pairs_for(0.0281) == 9_943  # about (1.96 + 0.84)^2 / 0.0281^2
    assert pairs_for(0.02) is None


@pytest.mark.parametrize("effect", [0.0, -1.0, math.nan])
def test_an_effect_is_above_zero(effect):
    with pytest.raises(InvalidInputError, match="above 0"):
        pairs_for(effect)


def test_the_pilots_deviation_has_the_chi_square_interval():
    found = needed(0.005, 0.004, pilot=5)
    sd, low, high = found.sd
    assert low**2 == pytest.approx(4 * sd**2 / stats.chi2.ppf(0.975, 4))
    assert high**2 == pytest.approx(4 * sd**2 / stats.chi2.ppf(0.025, 4))
    assert found.seeds == tuple(pairs_for(0.005 / value) for value in found.sd)


def test_of_three_pairs_little_is_known():
    sd, low, high = needed(0.005, 0.004, pilot=3).sd
    assert (low / sd, high / sd) == (pytest.approx(0.52, abs=0.01), pytest.approx(6.28, abs=0.01))


def test_without_spread_the_fewest_pairs_with_a_p_do():
    assert needed(0.005, 0.0, pilot=3).seeds == (6, 6, 6)
    assert needed(0.005, 0.0, pilot=3, comparisons=3).seeds == (7, 7, 7)


def test_the_pairs_find_the_difference_as_often_as_said():
    n, share = simulate.detected(1.0, 4_000, np.random.default_rng(0))
    assert n == 10
    assert abs(share - power(n, 1.0)) < 4 * simulate.error(0.8, 4_000)
