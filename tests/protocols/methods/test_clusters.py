"""Clusters of Divide and Conquer: k-means, and names that stay from one clustering to the next."""

import itertools

import numpy as np
import pytest

from protocols.errors import InvalidInputError
from protocols.methods._clusters import kmeans, renamed

OLD = np.array([0, 0, 1, 1, 2, 2])


# Matching.


def test_a_cycle_of_three_is_undone_and_compat_turns_it_further():
    new = np.array([2, 2, 0, 0, 1, 1])
    assert renamed(new, OLD, 3).tolist() == OLD.tolist()
    assert renamed(new, OLD, 3, transposed=True).tolist() == [1, 1, 2, 2, 0, 0]


@pytest.mark.parametrize("transposed", [False, True])
def test_a_swap_is_undone_either_way(transposed):
    new = np.array([1, 1, 0, 0, 2, 2])
    assert renamed(new, OLD, 3, transposed=transposed).tolist() == OLD.tolist()


def test_matching_a_permutation_of_names_is_the_identity():
    rng = np.random.default_rng(0)
    for _ in range(100):
        count = int(rng.integers(1, 9))
        old = np.concatenate([np.arange(count), rng.integers(0, count, 40)])
        assert renamed(rng.permutation(count)[old], old, count).tolist() == old.tolist()


def differing(new, old, names):
    """Return the total symmetric difference of new clusters and the old ones named for them."""
    return sum(
        len(set(np.flatnonzero(new == k)) ^ set(np.flatnonzero(old == name)))
        for k, name in enumerate(names)
    )


def test_no_renaming_costs_less_than_the_one_that_is_chosen():
    rng = np.random.default_rng(1)
    for _ in range(60):
        count = int(rng.integers(1, 6))
        # Each cluster holds an image; few images make many ties, many make few.
        more = int(rng.choice([0, 3, 40]))
        new = np.concatenate([rng.permutation(count), rng.integers(0, count, more)])
        old = np.concatenate([rng.permutation(count), rng.integers(0, count, more)])
        got = renamed(new, old, count)
        names = [int(got[new == k][0]) for k in range(count)]
        assert sorted(names) == list(range(count))
        assert all((got[new == k] == names[k]).all() for k in range(count))
        orders = itertools.permutations(range(count))
        assert differing(new, old, names) == min(differing(new, old, o) for o in orders)


def test_ties_are_settled_the_same_way_each_time():
    old, new = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)  # all shares are equal
    assert renamed(new, old, 3).tolist() == new.tolist()
    rng = np.random.default_rng(2)
    for _ in range(20):
        new, old = rng.integers(0, 8, (2, 12))
        assert renamed(new, old, 8).tolist() == renamed(new.copy(), old.copy(), 8).tolist()


# Clusters.


def spread(rows, cluster):
    return sum(
        ((rows[cluster == k] - rows[cluster == k].mean(0)) ** 2).sum() for k in np.unique(cluster)
    )


def test_kmeans_finds_the_best_partition_of_a_few_points():
    rng = np.random.default_rng(0)
    for seed in range(10):
        rows = rng.normal(size=(8, 2)).astype(np.float32)
        found = kmeans(rows, 2, np.random.default_rng(seed), restarts=20)
        every = (np.array(p) for p in itertools.product((0, 1), repeat=8) if 0 < sum(p) < 8)
        best = min(spread(rows.astype(float), p) for p in every)
        assert spread(rows.astype(float), found) == pytest.approx(best)


def test_kmeans_repeats_under_a_seed_and_finds_far_clouds():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, 200)
    rows = (rng.normal(size=(200, 6)) + 50 * np.eye(6)[truth]).astype(np.float32)
    first, second = (kmeans(rows, 4, np.random.default_rng(9)) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert renamed(first, truth, 4).tolist() == truth.tolist()


def test_kmeans_of_copies_and_of_too_few():
    same = kmeans(np.zeros((6, 2), np.float32), 3, np.random.default_rng(0))
    assert set(same) <= {0, 1, 2}
    with pytest.raises(InvalidInputError, match="2 images cannot make 3 clusters"):
        kmeans(np.zeros((2, 2), np.float32), 3, np.random.default_rng(0))
