"""Simulated studies with a known truth: what intervals and verdicts get right, counted.

Used by the tests with few simulations and by ``measure_statistics.py`` with many.
"""

from __future__ import annotations

import math

import numpy as np

from benchmark.statistics import across, bootstrap, paired, power
from benchmark.statistics.variance import split
from benchmark.tables.class_sums import sum_by_class

TRUTH = 0.4


def error(share: float, count: int) -> float:
    """Return the Monte Carlo standard error of a share."""
    return math.sqrt(share * (1 - share) / count)


def t_coverage(n: int, cells: int, rng: np.random.Generator) -> float:
    """Return how many of ``cells`` t-intervals of n seeds hold the truth."""
    values = rng.normal(TRUTH, 0.01, (cells, n)).tolist()
    found = [paired.t_interval(row) for row in values]
    return sum(i.low <= TRUTH <= i.high for i in found) / cells


def studies(
    methods: int, seeds: int, rng: np.random.Generator, *, skewed: bool = False
) -> np.ndarray:
    """Return runs (methods, seeds) of methods that are all the same.

    A seed's start and batches are shared by all methods (sd 1 point), the rest is each run's own:
    0.6 points, with another spread for each method; with ``skewed`` from an exponential.
    """
    shared = rng.normal(0, 0.01, seeds)
    spread = rng.uniform(0.003, 0.009, (methods, 1))
    draw = (
        rng.exponential(1, (methods, seeds)) - 1 if skewed else rng.normal(0, 1, (methods, seeds))
    )
    return TRUTH + shared + spread * draw


def false_verdicts(
    methods: int, seeds: int, count: int, rng: np.random.Generator, *, skewed: bool = False
) -> float:
    """Return the share of studies of equal methods with any verdict better or worse.

    Row 0 is the baseline and the family is all others against it, adjusted by Holm, as in the
    tables.
    """
    pairs = [(m, 0) for m in range(1, methods)]
    wrong = 0
    for _ in range(count):
        results = paired.paired_all(studies(methods, seeds, rng, skewed=skewed), pairs)
        adjusted = paired.holm([r.p for r in results])
        verdicts = [paired.verdict(r.difference, p) for r, p in zip(results, adjusted, strict=True)]
        wrong += bool({"better", "worse"} & set(verdicts))
    return wrong / count


def fold_level_false(seeds: int, folds: int, count: int, rng: np.random.Generator) -> float:
    """Return how often 0 is outside a t-interval over seeds x folds, of two equal methods.

    Folds of one seed share what that seed did to a method (sd 0.4 points) beside their own
    0.5 points: counting them as replications of their own claims more than is known.
    """
    own = rng.normal(0, 0.004, (count, seeds, 1)) + rng.normal(0, 0.005, (count, seeds, folds))
    found = [paired.t_interval(row.ravel().tolist()) for row in own]
    return sum(i.low > 0 or i.high < 0 for i in found) / count


def class_coverage(classes: int, count: int, rng: np.random.Generator) -> float:
    """Return how many class bootstrap intervals of a test set hold the mean over all classes.

    Classes have their own success rate (sd 0.2) and between 2 and 11 queries of 0 or 1.
    """
    held = 0
    for _ in range(count):
        sizes = rng.integers(2, 12, classes)
        rates = rng.beta(2, 3, classes)
        labels = np.repeat(np.arange(classes), sizes)
        hits = (rng.random(len(labels)) < rates[labels]).astype(np.float64)
        _, counts, sums = sum_by_class(labels, hits[None])
        drawn = bootstrap.draw_classes("simulated", classes)
        replicates = bootstrap.class_means(drawn, sums, counts)
        low, high = bootstrap.over_classes(replicates, classes)
        held += low[0] <= TRUTH <= high[0]
    return held / count


def query_coverage(classes: int, count: int, rng: np.random.Generator) -> float:
    """Return the same of an interval that takes queries for independent: 1.96 standard errors."""
    held = 0
    for _ in range(count):
        sizes = rng.integers(2, 12, classes)
        rates = rng.beta(2, 3, classes)
        hits = (rng.random(sizes.sum()) < np.repeat(rates, sizes)).astype(np.float64)
        held += abs(hits.mean() - TRUTH) < 1.96 * hits.std() / math.sqrt(len(hits))
    return held / count


def across_coverage(
    datasets: int, seeds: int, count: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return how many intervals of mean and interquartile mean over datasets hold the truth.

    Values are symmetric around the same gain on every dataset, so both have the same truth.
    """
    held = np.zeros(2)
    for _ in range(count):
        scores = {str(d): rng.normal(TRUTH, 0.01, seeds) for d in range(datasets)}
        found = (across.mean(scores), across.interquartile_mean(scores))
        held += [f.low <= TRUTH <= f.high for f in found]
    return tuple(held / count)


def split_means(
    searches: int, seeds: int, count: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return the mean variance found of searches (truth 4) and seeds (1), and the coverage.

    The coverage is of the interval of the mean over searches.
    """
    variances, held = np.zeros(2), 0
    for _ in range(count):
        runs = rng.normal(0, 2, (searches, 1)) + rng.normal(0, 1, (searches, seeds))
        found = split(runs.tolist())
        variances += [found.sd_search**2, found.sd_seed**2]
        held += found.mean.low <= 0 <= found.mean.high
    return (*(variances / count), held / count)


def detected(effect: float, count: int, rng: np.random.Generator) -> tuple[int, float]:
    """Return the pairs that should find ``effect`` (in sd), and how often a t-interval does."""
    n = power.pairs_for(effect)
    found = [paired.t_interval(row) for row in rng.normal(effect, 1, (count, n)).tolist()]
    return n, sum(i.low > 0 or i.high < 0 for i in found) / count
