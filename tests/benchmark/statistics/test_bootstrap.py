"""Resampled classes and seeds, against slow loops, formulas and scipy."""

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics import bootstrap
from benchmark.statistics.bootstrap import sum_by_class
from tests import simulate


def test_a_resample_draws_as_many_classes_as_there_are():
    drawn = bootstrap.draw_classes("birds", 30)
    assert drawn.shape == (2_000, 30)
    assert (drawn.sum(axis=1) == 30).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(30), abs=4 * np.sqrt(29 / 30 / 2_000))


def test_draws_follow_from_names_alone():
    one = bootstrap.draw_classes("birds", 30)
    bootstrap.draw_classes.cache_clear()
    assert np.array_equal(one, bootstrap.draw_classes("birds", 30))
    assert not np.array_equal(one, bootstrap.draw_classes("cars", 30))


def test_resampled_means_are_those_of_a_slow_loop():
    rng = np.random.default_rng(0)
    labels, values = rng.integers(0, 25, 200), rng.random((2, 200))
    classes, counts, sums = sum_by_class(labels, values)
    drawn = bootstrap.draw_classes("birds", len(classes))[:300]
    found = bootstrap.class_means(drawn, sums, counts)
    for row in (0, 1, 260, 299):
        chosen = [q for c, n in zip(classes, drawn[row], strict=True) for q in n * [c]]
        queries = np.concatenate([np.flatnonzero(labels == c) for c in chosen])
        assert found[row] == pytest.approx(values[:, queries].mean(axis=1), rel=1e-12)


def test_the_spread_over_classes_is_the_linearised_one():
    rng = np.random.default_rng(1)
    counts = rng.integers(2, 12, 400).astype(float)
    sums = (counts * rng.beta(2, 3, 400))[None]
    found = bootstrap.class_means(bootstrap.draw_classes("many", 400), sums, counts)
    residual = sums[0] - counts * sums[0].sum() / counts.sum()
    assert found.std() == pytest.approx(np.sqrt((residual**2).sum()) / counts.sum(), rel=0.06)


def test_one_query_a_class_is_scipys_bootstrap():
    values = np.random.default_rng(2).random(60)
    drawn = bootstrap.draw_classes("singles", 60)
    found = bootstrap.class_means(drawn, values[None], np.ones(60))[:, 0]
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    )
    ends = np.quantile(found, [0.025, 0.975])
    assert ends == pytest.approx(list(theirs.confidence_interval), abs=0.006)
    assert found.std(ddof=1) == pytest.approx(theirs.standard_error, rel=0.06)


def test_the_interval_over_classes_is_as_wide_as_students():
    values = np.random.default_rng(2).normal(0.4, 0.1, 25)
    drawn = bootstrap.draw_classes("few", 25)
    found = bootstrap.class_means(drawn, values[None], np.ones(25))
    (low,), (high,) = bootstrap.over_classes(found, 25)
    expected = stats.t.interval(0.95, 24, values.mean(), stats.sem(values))
    assert (low, high) == (
        pytest.approx(expected[0], abs=0.007),
        pytest.approx(expected[1], abs=0.007),
    )


def test_no_end_of_a_score_lies_beyond_what_a_score_can_be():
    classes = 36
    hits = np.full((2, classes), 5.0)
    hits[0, :3] = 2.0  # 5 queries a class; of three classes not all find one of theirs
    hits[1] = 5.0 - hits[0]
    drawn = bootstrap.draw_classes("x", classes)
    means = bootstrap.class_means(drawn, hits, np.full(classes, 5.0))
    low, high = bootstrap.over_classes(means, classes)
    assert high[0] > 1  # what stretching does
    assert low[1] < 0
    clipped = bootstrap.scores_over_classes(means, classes)
    assert clipped[0].tolist() == [low[0], 0.0]
    assert clipped[1].tolist() == [1.0, high[1]]


def test_excluded_queries_are_neither_summed_nor_counted():
    labels = np.array([7, 3, 7, 3, 9])
    values = np.array([[0.5, 1.0, np.nan, 0.0, np.nan]])
    classes, counts, sums = sum_by_class(labels, values)
    assert (classes.tolist(), counts.tolist(), sums.tolist()) == ([3, 7], [2, 1], [[1.0, 0.5]])


def test_resampled_seeds_have_the_spread_of_a_mean():
    values = np.random.default_rng(3).normal(0.4, 0.01, (4, 5))
    means = bootstrap.resample_means("birds", values)
    expected = values.std(axis=1, ddof=1) / np.sqrt(5)  # not the resample's, 11 % less
    assert means.std(axis=0) == pytest.approx(expected, rel=0.05)
    alone = bootstrap.resample_seeds("birds", values[2]).mean(axis=1)
    assert means[:, 2] == pytest.approx(alone)


def test_methods_are_resampled_with_the_same_seeds():
    base = np.random.default_rng(4).normal(0.4, 0.01, 6)
    means = bootstrap.resample_means("birds", np.array([base, base + 0.02]))
    assert means[:, 1] - means[:, 0] == pytest.approx(np.full(4_000, 0.02))


def test_an_expanded_interval_has_students_width():
    replicates = np.random.default_rng(5).normal(0, 1, 200_000)
    for freedom in (4, 12, 9):
        low, high = bootstrap.expanded(replicates, freedom)
        expected = stats.t.ppf(0.975, freedom)
        assert (-low, high) == (
            pytest.approx(expected, rel=0.05),
            pytest.approx(expected, rel=0.05),
        )


def test_nineteen_of_twenty_class_intervals_hold_the_mean_over_all_classes():
    count = 400  # standard error 1.1 %
    rng = np.random.default_rng(6)
    assert simulate.class_coverage(60, count, rng) > 0.95 - 3 * simulate.error(0.95, count)
    # What the cluster is for: with queries taken for independent it is far too narrow.
    assert simulate.query_coverage(60, count, rng) < 0.88
