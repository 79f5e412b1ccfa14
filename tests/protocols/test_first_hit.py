"""The rank of the first item of a query's class against a sort of all float64 similarities."""

import numpy as np
import pytest

from protocols import first_hit as module
from protocols import settle
from protocols.first_hit import Groups, first_hits


@pytest.fixture
def small(monkeypatch):
    """Blocks small enough that a few hundred rows fill many of them."""
    for name, value in {"_ROWS": 32, "_COLUMNS": 50}.items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def in_full(monkeypatch):
    """Count the queries that float64 had to decide in full."""
    seen, real = [], settle.in_full

    def count(search, asking):
        seen.append(len(asking))
        return real(search, asking)

    monkeypatch.setattr(settle, "in_full", count)
    return seen


def sorted_ranks(queries, items, half, query_labels, item_labels, depth):
    """Return the rank of each query's first hit, one query at a time; 0 beyond ``depth``."""
    ranks = []
    for i, query in enumerate(queries.astype(np.float64)):
        key = ((query * items.astype(np.float64)).sum(1) - half).astype(np.float32)
        order = [
            j for j in np.lexsort((np.arange(len(items)), -key)) if queries is not items or j != i
        ]
        rank = next(n for n, j in enumerate(order, 1) if item_labels[j] == query_labels[i])
        ranks.append(rank if rank <= depth else 0)
    return ranks


def case(seed, own, by_angle, spread=1.0):
    """Return rows, half squares and labels such that each query has an item of its class."""
    rng = np.random.default_rng(seed)
    x = 1 + spread * rng.normal(size=(240, 7))
    x[rng.integers(0, 240, 80)] = x[rng.integers(0, 240, 80)]
    q = x if own else x[rng.integers(0, 240, 70)] + spread * rng.normal(size=(70, 7)) * 0.1
    if by_angle:
        x, q = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, q))
    x = x.astype(np.float32)
    q = x if own else q.astype(np.float32)
    half = np.zeros(len(x)) if by_angle else (x.astype(np.float64) ** 2).sum(1) / 2
    labels = rng.permutation(240) % 60
    return q, x, half, labels if own else rng.integers(0, 60, 70), labels


def found(q, x, half, query_labels, item_labels, depth, device):
    groups = Groups.of(query_labels, item_labels, q is x)
    asked, ranks = first_hits(q, x, half, groups.pairs(np.arange(len(q))), depth, device)
    np.testing.assert_array_equal(asked, np.arange(len(q)))
    return ranks.tolist()


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
@pytest.mark.parametrize("by_angle", [True, False], ids=["angle", "distance"])
@pytest.mark.parametrize("own", [True, False], ids=["own set", "gallery"])
@pytest.mark.parametrize("seed", range(3))
def test_ranks_equal_the_sort(seed, own, by_angle, device, small, in_full):
    given = case(seed, own, by_angle)
    for depth in (1, 30, 1000):
        assert found(*given, depth, device) == sorted_ranks(*given, depth)
    assert in_full == []


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-5])
def test_ranks_of_a_collapsed_set_are_decided_in_float64(
    spread, device, small, in_full, monkeypatch
):
    monkeypatch.setattr(module, "_OPEN", 2000)
    given = case(5, True, True, spread)
    assert found(*given, 1000, device) == sorted_ranks(*given, 1000)
    assert sum(in_full) > 0


def test_lengths_near_the_end_of_float32_do_not_overflow(in_full):
    q, _, _, labels, _ = case(0, True, False)
    q = q * np.float32(1e18)
    given = (q, q, (q.astype(np.float64) ** 2).sum(1) / 2, labels, labels)
    assert found(*given, 1000, "cpu") == sorted_ranks(*given, 1000)
    assert sum(in_full) == len(q)


def test_only_the_queries_asked_about_are_answered():
    q, x, half, labels, _ = case(1, True, True)
    some = np.array([3, 50, 200])
    asked, ranks = first_hits(q, x, half, Groups.of(labels, labels, True).pairs(some), 1000)
    np.testing.assert_array_equal(asked, some)
    assert ranks.tolist() == np.array(sorted_ranks(q, x, half, labels, labels, 1000))[some].tolist()


def test_groups_pair_a_query_with_all_others_of_its_class():
    groups = Groups.of(np.array([4, 9, 4, 7]), np.array([4, 9, 4, 7]), True)
    assert groups.relevant.tolist() == [1, 0, 1, 0]
    assert [part.tolist() for part in groups.pairs(np.array([0, 2]))] == [[0, 2], [2, 0]]
    apart = Groups.of(np.array([9, 5]), np.array([4, 9, 4, 9]), False)
    assert apart.relevant.tolist() == [2, 0]
    assert [part.tolist() for part in apart.pairs(np.array([0]))] == [[0, 0], [1, 3]]
