"""Methods across datasets, against scipy and scikit-posthocs, worked by hand, and by simulation."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmark.statistics import across
from protocols.errors import InvalidInputError
from tests import simulate


def random_scores(methods, datasets, seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.02, (methods, datasets))


def test_ranks_are_scipys():
    scores = np.random.default_rng(0).integers(0, 4, (50, 7)).astype(float)  # with ties
    expected = stats.rankdata(-scores, axis=1)
    assert np.array_equal(across.ranks(scores), expected)


def test_the_interquartile_mean_is_scipys():
    for sizes in ((3, 3), (5, 4), (10, 7, 8)):
        rng = np.random.default_rng(sum(sizes))
        scores = {str(d): rng.random(n) for d, n in enumerate(sizes)}
        found = across.interquartile_mean(scores)
        expected = stats.trim_mean(np.concatenate([*scores.values()]), 0.25)
        assert found.value == pytest.approx(expected)
        assert found.low <= found.value <= found.high


def test_a_mean_over_datasets_worked_by_hand():
    scores = {"birds": np.array([0.2, 0.2, 0.2]), "cars": np.array([0.5, 0.6, 0.7, 0.6])}
    found = across.mean(scores)
    assert found.value == pytest.approx(0.4)  # datasets count alike, whatever their seeds


def test_a_mean_over_datasets_is_as_wide_as_students():
    rng = np.random.default_rng(2)
    scores = {"birds": rng.normal(0.2, 0.01, 12), "cars": rng.normal(0.6, 0.01, 8)}
    found = across.mean(scores)
    variance = sum(own.var(ddof=1) / len(own) for own in scores.values())
    half = stats.t.ppf(0.975, 18) * np.sqrt(variance) / 2
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def test_with_few_seeds_there_is_a_number_and_no_interval():
    scores = {"birds": np.array([0.2, 0.3]), "cars": np.array([0.5, 0.6, 0.7])}
    assert across.mean(scores) == across.Estimate(pytest.approx(0.425))
    assert across.interquartile_mean(scores).low is None
    assert across.mean_ranks({k: v[None] for k, v in scores.items()})[0] == across.Estimate(1.0)


def test_mean_ranks_worked_by_hand():
    sure = np.array([[0.5, 0.51, 0.5], [0.4, 0.41, 0.42], [0.1, 0.1, 0.1]])
    turned = sure[[1, 0, 2]]
    found = across.mean_ranks({"birds": sure, "cars": turned, "sop": sure})
    assert [e.value for e in found] == pytest.approx([4 / 3, 5 / 3, 3])
    assert [(e.low, e.high) for e in found] == [
        (e.value.__round__(6), e.value.__round__(6)) for e in found
    ]  # no resample changes an order this clear


def test_a_tie_of_methods_has_an_interval_of_ranks():
    rng = np.random.default_rng(1)
    found = across.mean_ranks({d: rng.normal(0.4, 0.01, (2, 5)) for d in ("birds", "cars")})
    assert all(1 <= e.low < e.high <= 2 for e in found)


@pytest.mark.parametrize("datasets", [6, 8, 12])
def test_the_signed_rank_p_is_scipys(datasets):
    for seed in range(20):
        d = np.random.default_rng(seed).normal(0.005, 0.01, datasets)
        expected = stats.wilcoxon(d, method="exact").pvalue
        assert across.wilcoxon([d.tolist()]) == [pytest.approx(expected)]


def test_differences_of_zero_are_left_out_and_too_few_have_no_p():
    assert across.wilcoxon([[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]) == [2 / 64]
    assert across.wilcoxon([[0.0, 0.1, 0.2, 0.3, 0.4, 0.5]]) == [None]


@pytest.mark.parametrize("methods", [3, 4])
def test_the_adjusted_ps_are_scikit_posthocs(methods):
    scores = random_scores(methods, 10) + np.linspace(0, 0.03, methods)[:, None]
    found = across.critical_differences(scores)
    long = pd.DataFrame(
        [(f"m{m}", value) for m, row in enumerate(scores) for value in row], columns=["m", "v"]
    )
    theirs = scikit_posthocs.posthoc_wilcoxon(
        long, val_col="v", group_col="m", method="exact", p_adjust="holm"
    )
    for (a, b), p in found.p.items():
        assert p == pytest.approx(theirs.loc[f"m{a}", f"m{b}"])
    assert any(p <= 0.05 for p in found.p.values())
    assert found.ranks == pytest.approx(stats.rankdata(-scores, axis=0).mean(axis=1).tolist())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_groups_hold_no_pair_that_differs_and_cannot_grow(seed):
    rng = np.random.default_rng(seed)
    scores = random_scores(5, 12, seed) + rng.uniform(0, 0.05, (5, 1))
    found = across.critical_differences(scores)
    order = sorted(range(5), key=lambda m: (found.ranks[m], m))

    def together(group):
        return all(found.p[min(a, b), max(a, b)] > 0.05 for a in group for b in group if a < b)

    stretches = [tuple(order[i:j]) for i in range(5) for j in range(i + 2, 6)]
    good = [s for s in stretches if together(s)]
    maximal = [s for s in good if not any(set(s) < set(other) for other in good)]
    assert found.groups == maximal


@pytest.mark.parametrize(
    ("methods", "datasets", "reason"),
    [
        (3, 5, "differences of 3 methods need 7 datasets, here are 5"),
        (2, 6, ""),
        (3, 6, "differences of 3 methods need 7 datasets, here are 6"),
        (3, 7, ""),
        (10, 9, "differences of 10 methods need 11 datasets, here are 9"),
        (10, 11, ""),
    ],
)
def test_where_nothing_can_be_told_apart_there_is_no_diagram(methods, datasets, reason):
    if reason:
        with pytest.raises(InvalidInputError, match=reason):
            across.critical_differences(random_scores(methods, datasets))
    else:
        across.critical_differences(random_scores(methods, datasets))


def test_the_datasets_asked_for_are_the_fewest_on_which_a_pair_can_be_told_apart():
    """Methods in the same order everywhere have the smallest p there is; Holm multiplies it."""
    lowest = {d: stats.wilcoxon(np.arange(1.0, d + 1), method="exact").pvalue for d in range(3, 20)}
    for methods in (2, 3, 6, 10, 20):
        pairs = len(list(combinations(range(methods), 2)))
        fewest = min(d for d, p in lowest.items() if pairs * p <= 0.05)
        for datasets in range(2, 19):
            expected = (
                f"critical differences of {methods} methods need {fewest} datasets, "
                f"here are {datasets}"
            )
            assert across.why_not(methods, datasets) == expected * (datasets < fewest)
    assert "20 methods need 13 datasets" in across.why_not(20, 6)
    assert "6 methods need 10 datasets" in across.why_not(6, 6)


def test_intervals_over_datasets_hold_the_truth():
    count = 300  # standard error 1.3 %
    found = simulate.across_coverage([0.01] * 3, 3, count, np.random.default_rng(7))
    bound = 0.95 - 3 * simulate.error(0.95, count)
    assert min(found) > bound


@pytest.mark.parametrize("spreads", [(0.05, 0.01), (0.0035, 0.012, 0.005, 0.003), (0.01,) * 8])
def test_the_mean_over_datasets_of_unlike_spread_is_held_as_often_as_it_says(spreads):
    """Resampled seeds held 86 % of the first and 90 % of the second."""
    count = 2000
    held, _ = simulate.across_coverage(spreads, 3, count, np.random.default_rng(8))
    assert 0.93 < held < 0.98


def test_the_interval_of_one_dataset_is_students():
    values = np.random.default_rng(9).normal(0.4, 0.01, 7)
    found = across.mean({"birds": values})
    half = stats.t.ppf(0.975, 6) * stats.sem(values)
    assert found.low == pytest.approx(values.mean() - half)
    assert found.high == pytest.approx(values.mean() + half)


def test_more_than_twenty_datasets_are_tested_by_random_flips():
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((4, 40)) + np.array([0.0, 0.2, 0.4, 0.8])[:, None]
    for p, row in zip(across.wilcoxon(rows.tolist()), rows, strict=True):
        expected = stats.wilcoxon(row, method="approx").pvalue
        assert abs(p - expected) < 4 * np.sqrt(expected * (1 - expected) / 9_999) + 2e-3
    found = across.critical_differences(np.cumsum(rows, axis=0))
    assert all(p is not None for p in found.p.values())
