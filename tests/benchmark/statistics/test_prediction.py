"""Exact repetitions lie inside at 95 %: by hand, by another formula, by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics import paired, prediction

PAPERS = 10
COUNT = 4000
SLACK = 3 * math.sqrt(0.05 * 0.95 / COUNT)


def inside(seeds, searches, sd_search, rng, others=PAPERS, count=COUNT):
    """Return how often an exact repetition's mean lies in our interval; seeds vary by 1."""

    def draw(number, runs):
        found = rng.normal(0, sd_search, (count, number, 1)) if sd_search else 0.0
        return 40 + found + rng.normal(0, 1, (count, number, runs))

    ours, theirs = draw(searches, seeds), draw(1, others).mean(axis=(1, 2))
    met = 0
    for groups, mean in zip(ours.tolist(), theirs, strict=True):
        found = prediction.mean_of(groups, others)
        met += found.low <= mean <= found.high
    return met / count


def test_one_search_worked_by_hand():
    # mean 4, sd 2, n 3: t(0.975, 2) = 4.302653, sqrt(1/3 + 1/10) = 0.658281
    found = prediction.mean_of([[2.0, 4.0, 6.0]], PAPERS)
    assert (found.searches, found.runs, found.mean) == (1, 3, 4.0)
    assert found.high - 4 == pytest.approx(4.302653 * 2 * 0.658281, rel=1e-6)
    assert 4 - found.low == pytest.approx(found.high - 4)


def test_against_endless_runs_it_is_the_confidence_interval():
    values = [0.26, 0.271, 0.265, 0.259]
    own, found = paired.t_interval(values), prediction.mean_of([values], 10**15)
    assert (found.low, found.high) == (pytest.approx(own.low), pytest.approx(own.high))


def test_two_searches_worked_by_hand():
    # means 2 and 6, b 8, two runs of each; 1 run on the other side: 8 · (1/2 + 2/1) = 20
    found = prediction.mean_of([[1.0, 3.0], [5.0, 7.0]], 1)
    assert (found.searches, found.runs, found.mean) == (2, 4, 4.0)
    assert found.high - 4 == pytest.approx(stats.t.ppf(0.975, 1) * math.sqrt(20))
    # as many runs on the other side, or more: 8 · (1/2 + 1) = 12
    for runs in (2, PAPERS):
        found = prediction.mean_of([[1.0, 3.0], [5.0, 7.0]], runs)
        assert found.high - 4 == pytest.approx(stats.t.ppf(0.975, 1) * math.sqrt(12))


def test_without_enough_runs_there_is_no_interval():
    assert prediction.mean_of([], PAPERS) == prediction.Prediction(0, 0, None, None, None)
    assert prediction.mean_of([[1.0, 2.0]], PAPERS) == prediction.Prediction(1, 2, 1.5, None, None)
    alike = prediction.mean_of([[1.0] * 3], PAPERS)
    assert (alike.low, alike.high) == (1.0, 1.0)
    assert prediction.mean_of([[1.0] * 3, [1.0] * 3, []], PAPERS).high == 1.0


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_an_exact_repetition_is_inside_in_95_per_cent(seeds):
    share = inside(seeds, 1, 0.0, np.random.default_rng(seeds))
    assert share == pytest.approx(0.95, abs=SLACK)


@pytest.mark.parametrize(
    ("seeds", "searches", "sd_search"), [(10, 3, 1.0), (10, 5, 2.0), (10, 2, 0.5), (12, 3, 0.0)]
)
def test_measured_searches_keep_it_at_95_per_cent(seeds, searches, sd_search):
    share = inside(seeds, searches, sd_search, np.random.default_rng(7), count=2000)
    assert share == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / 2000))


def test_fewer_seeds_than_the_other_side_only_widen_it():
    share = inside(3, 3, 0.5, np.random.default_rng(8), count=2000)
    assert 0.94 <= share <= 0.985


def test_with_one_search_its_variance_is_not_in_the_interval():
    """What is printed under the table: about half if searches vary as much as seeds.

    The difference has the variance 2 + 2/10, the interval expects 2/10: P(|t(9)| < t(0.975) / √11).
    """
    share = inside(10, 1, 1.0, np.random.default_rng(9))
    expected = 2 * stats.t.cdf(stats.t.ppf(0.975, 9) / 11**0.5, 9) - 1
    assert expected == pytest.approx(0.488, abs=0.001)
    assert share == pytest.approx(expected, abs=3 * math.sqrt(0.25 / COUNT))


def told(seeds, gap, sd, rng, count=COUNT, error=0.0):
    """Return how often each word is said, per cent points; the truths are ``gap`` apart."""
    ours = 40 + gap + rng.normal(0, sd, (count, seeds))
    theirs = 40 + rng.normal(0, sd, (count, PAPERS)).mean(axis=1)
    theirs += rng.choice((-error, error), count)  # as far off as the chart can be misread
    words = [
        prediction.tell(prediction.mean_of([runs], PAPERS), mean, error, margin=0.5)
        for runs, mean in zip(ours.tolist(), theirs.tolist(), strict=True)
    ]
    return {word: words.count(word) / count for word in prediction.TOLD}


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("sd", "error"), [(2.0, 0.0), (0.45, 0.0), (0.1, 0.0), (0.45, 0.02)])
def test_an_exact_repetition_is_called_different_in_five_per_cent_at_most(seeds, sd, error):
    shares = told(seeds, 0.0, sd, np.random.default_rng(seeds), error=error)
    assert shares["different"] <= 0.05 + SLACK
    if sd == 2:  # hardly ever consistent, so every miss counts
        assert shares["different"] == pytest.approx(0.05, abs=SLACK)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("sd", [0.05, 0.2, 0.45])
@pytest.mark.parametrize("gap", [0.5, -1.0])
def test_what_is_the_margin_or_more_apart_is_called_consistent_in_at_most_2_5_per_cent(
    seeds, sd, gap
):
    shares = told(seeds, gap, sd, np.random.default_rng(seeds + 20), count=2000)
    assert shares["consistent"] <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)


def test_a_gap_of_a_point_with_three_seeds_cannot_be_told_where_it_was_called_inside():
    """The paper's mean lies in our interval in every second case, which was once a yes."""
    shares = told(3, 1.0, 0.45, np.random.default_rng(5))
    assert shares["cannot tell"] == pytest.approx(0.54, abs=0.03)
    assert shares["consistent"] < 0.01


def test_enough_runs_of_little_noise_are_consistent():
    shares = told(10, 0.0, 0.2, np.random.default_rng(6))
    # t(9) · 0.2 · sqrt(1/5) = 0.2 to either side: a mean that is 0.3 off, 3.4 sd, would not be
    assert shares["consistent"] > 0.98


@pytest.mark.parametrize(
    ("theirs", "error", "word"),
    [
        (0.265, 0.0, "consistent"),
        (0.267, 0.0, "cannot tell"),
        (0.265, 0.002, "cannot tell"),
        (0.2755, 0.0, "different"),
        (0.2755, 0.01, "cannot tell"),
    ],
)
def test_words_worked_by_hand(theirs, error, word):
    ours = prediction.Prediction(1, 3, 0.265, 0.261, 0.269)
    assert prediction.tell(ours, theirs, error) == word


def test_a_certain_difference_that_does_not_matter_is_consistent():
    ours = prediction.Prediction(1, 10, 0.3, 0.2999, 0.3001)
    assert prediction.tell(ours, 0.303) == "consistent"


def test_without_an_interval_nothing_is_told():
    assert prediction.tell(prediction.mean_of([[0.2, 0.3]], PAPERS), 0.25) is None
