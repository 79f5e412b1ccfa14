"""Searches and seeds as sources of variance: by hand, against statsmodels, by simulation."""

import math
import warnings

import numpy as np
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

from benchmark.statistics import variance
from benchmark.statistics.variance import Sources, split
from tests import simulate


def test_a_split_worked_by_hand():
    found = split([[1.0, 3.0], [5.0, 7.0], [9.0, 11.0]])
    # means 2, 6, 10: between 32 with 2 degrees of freedom; within 2 with 3
    assert (found.searches, found.runs, found.mean.mean) == (3, 6, 6)
    assert found.sd_seed == pytest.approx(math.sqrt(2))
    assert found.sd_search == pytest.approx(math.sqrt((32 - 2) / 2))
    assert found.share == pytest.approx(15 / 17)
    assert found.share_low < found.share < found.share_high


def test_the_split_is_the_mixed_models():
    rng = np.random.default_rng(0)
    runs = rng.normal(0, 2, (8, 1)) + rng.normal(0, 1, (8, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = MixedLM(runs.ravel(), np.ones(40), np.repeat(np.arange(8), 5)).fit(reml=True)
    found = split(runs.tolist())
    assert found.sd_search**2 == pytest.approx(float(fitted.cov_re[0, 0]), rel=1e-3)
    assert found.sd_seed**2 == pytest.approx(fitted.scale, rel=1e-3)


def test_no_part_is_below_zero():
    found = split([[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]])
    assert (found.sd_search, found.share, found.share_low) == (0.0, 0.0, 0.0)


def test_searches_without_runs_are_left_out_and_unequal_ones_have_no_share_interval():
    found = split([[1.0, 3.0], [], [5.0], [9.0, 11.0]])
    assert (found.searches, found.runs, found.share_low) == (3, 5, None)
    assert found.share is not None


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[1.0], [2.0]]])
def test_sources_that_cannot_be_told_apart_are_not_given(groups):
    found = split(groups)
    assert (found.sd_search, found.sd_seed, found.share) == (None, None, None)


def test_equal_runs_have_no_share():
    found = split([[0.5, 0.5], [0.5, 0.5]])
    assert found == Sources(2, 4, found.mean, 0.0, 0.0, None, None, None)


def test_both_parts_are_found_without_bias():
    count = 2_000
    search, seed, held = simulate.split_means(4, 4, count, np.random.default_rng(1))
    # sd of one estimate: about 4.25 sqrt(2/3) and 1 sqrt(2/12)
    assert search == pytest.approx(4, abs=4 * 3.5 / math.sqrt(count))
    assert seed == pytest.approx(1, abs=4 * 0.41 / math.sqrt(count))
    assert abs(held - 0.95) < 4 * simulate.error(0.95, count)


def test_the_shares_interval_holds_the_share():
    rng, count, held = np.random.default_rng(2), 2_000, 0
    for _ in range(count):
        runs = rng.normal(0, 1, (4, 1)) + rng.normal(0, 1, (4, 3))
        found = split(runs.tolist())
        held += found.share_low <= 0.5 <= found.share_high
    assert abs(held / count - 0.95) < 4 * simulate.error(0.95, count)


def test_pooled_sources_are_those_of_one_cell_where_there_is_one():
    rng = np.random.default_rng(3)
    groups = rng.normal(0, 1, (3, 10)) + rng.normal(0, 2, (3, 1))
    one, own = variance.pooled([groups.tolist()]), variance.split(groups.tolist())
    # F is n r^2 + 1; its mean without a search is 27 / 25
    f = 10 * (own.sd_search / own.sd_seed) ** 2 + 1
    assert (one.cells, one.ratio) == (1, pytest.approx(math.sqrt((f * 25 / 27 - 1) / 10)))
    for end, share in ((one.low, own.share_low), (one.high, own.share_high)):
        exact = 10 * share / (1 - share) + 1
        assert 10 * end**2 + 1 == pytest.approx(exact)


@pytest.mark.parametrize("true", [0.3, 1.0])
def test_pooled_sources_hold_for_cells_of_unlike_spread(true):
    """Seeds of the cells spread from a quarter to twice, as rows of one study do."""
    rng = np.random.default_rng(4)
    squares, held, times = [], 0, 500
    scale = np.array([0.25, 0.5, 0.5, 1.0, 1.5, 2.0])[:, None, None]
    for _ in range(times):
        cells = rng.normal(0, 1, (6, 3, 10)) + rng.normal(0, true, (6, 3, 1))
        cells = scale * cells + rng.normal(0, 5, (6, 1, 1))  # cells have means of their own
        found = variance.pooled(cells.tolist())
        squares.append(found.ratio**2)
        held += found.low <= true <= found.high
    assert np.mean(squares) == pytest.approx(true**2, rel=0.12)
    assert 0.925 <= held / times <= 0.975


@pytest.mark.parametrize(("cells", "searches", "seeds"), [(3, 3, 3), (6, 2, 6), (12, 3, 4)])
def test_pooled_intervals_hold_with_few_seeds(cells, searches, seeds):
    """One F of summed degrees of freedom held 92 % of them, 93 % and 92 %."""
    rng = np.random.default_rng(6)
    held, times, true = 0, 2000, 0.5
    for _ in range(times):
        runs = rng.normal(0, 1, (cells, searches, seeds))
        found = variance.pooled((runs + rng.normal(0, true, (cells, searches, 1))).tolist())
        held += found.low <= true <= found.high
    assert 0.94 <= held / times <= 0.975


def test_two_searches_of_three_runs_have_no_pooled_interval():
    groups = [[[0.1, 0.2, 0.3], [0.4, 0.5, 0.7]], [[0.3, 0.2, 0.3], [0.4, 0.1, 0.7]]]
    found = variance.pooled(groups)
    assert found.ratio > 0
    assert (found.low, found.high) == (None, None)


def test_runs_that_are_all_alike_have_no_spread_whatever_their_rounding():
    alike = [[0.7] * 3, [0.5] * 3, [0.6] * 3]
    assert split([[0.7] * 3] * 3).share is None
    found = split(alike)
    assert (found.sd_seed, found.share, found.share_low) == (0.0, 1.0, None)
    assert variance.pooled([alike]) is None
    spread = [[0.1, 0.2, 0.3], [0.2, 0.3, 0.5], [0.1, 0.4, 0.6]]
    assert variance.pooled([alike, spread]) == variance.pooled([spread])


def test_a_median_of_single_estimates_is_cut_to_nothing():
    """Why cells are pooled: searches that add 0.3 of what seeds do."""
    rng = np.random.default_rng(5)
    cells = rng.normal(0, 1, (2000, 3, 10)) + rng.normal(0, 0.3, (2000, 3, 1))
    found = [split(cell.tolist()).sd_search for cell in cells]
    assert np.median(found) < 0.22
    assert variance.pooled(cells.tolist()).ratio == pytest.approx(0.3, abs=0.03)


def test_nothing_is_pooled_without_a_cell_or_a_spread():
    assert variance.pooled([]) is None
    assert variance.pooled([[[1.0, 1.0], [1.0, 1.0]]]) is None
