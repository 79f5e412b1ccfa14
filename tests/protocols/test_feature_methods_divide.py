"""Divide and Conquer: clusters, matching, batches, phases, its loss and its sampling."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize

from protocols.conformance import SPEC, as_features, build, toy_batch, toy_features
from protocols.errors import InvalidInputError
from protocols.method import Batch
from protocols.methods import _margin
from protocols.methods._clusters import assignment, kmeans, renamed
from protocols.methods._margin import (
    by_distance,
    by_nearness,
    hinges,
    log_weights,
    margin_loss,
    triplets,
)
from protocols.methods.divide_conquer import DivideConquer, members, some
from protocols.space import declared

OLD = np.array([0, 0, 1, 1, 2, 2])


def seeded(seed):
    return torch.default_generator.manual_seed(seed)


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng(devices=[]):
        seeded(0)
        yield


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


def test_assignment_equals_scipys():
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = int(rng.integers(1, 10))
        cost = rng.integers(0, int(rng.choice([3, 1000])), (n, n))
        columns = assignment(cost)
        assert sorted(columns) == list(range(n))
        rows, best = linear_sum_assignment(cost)
        assert cost[np.arange(n), columns].sum() == cost[rows, best].sum()


def test_the_cost_is_the_symmetric_difference():
    cost = np.array([[4, 0, 4], [4, 4, 0], [0, 4, 4]])
    assert assignment(cost).tolist() == [1, 2, 0]
    rng = np.random.default_rng(2)
    for _ in range(30):
        new, old = rng.integers(0, 3, (2, 20))
        names = [renamed(new, old, 3)[new == k] for k in range(3)]
        total = sum(
            len(set(np.flatnonzero(new == k)) ^ set(np.flatnonzero(old == name[0])))
            for k, name in enumerate(names)
            if len(name)
        )
        least = min(
            sum(
                len(set(np.flatnonzero(new == k)) ^ set(np.flatnonzero(old == order[k])))
                for k in range(3)
                if len(names[k])
            )
            for order in itertools.permutations(range(3))
        )
        if all(len(name) for name in names):
            assert total == least


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


# Loss and sampling.


def test_both_hinges_count():
    near, far = torch.tensor([1.1]), torch.tensor([1.3])
    assert hinges(near, far, boundary=1.2, margin=0.2).item() == pytest.approx(0.1)


def test_hinges_equal_a_loop():
    rng = np.random.default_rng(0)
    for _ in range(50):
        near, far = rng.uniform(0, 2, (2, 9))
        beta, margin = rng.uniform(0.8, 1.5), rng.uniform(0.05, 0.5)
        parts = [max(0.0, a - beta + margin) for a in near] + [
            max(0.0, beta - b + margin) for b in far
        ]
        slow = sum(parts) / max(1, sum(p > 0 for p in parts))
        fast = hinges(torch.tensor(near), torch.tensor(far), boundary=beta, margin=margin)
        assert fast.item() == pytest.approx(slow)


def test_weights_on_the_sphere_of_three_dimensions_are_inverse_distances():
    d = torch.tensor([[0.5, 1.0, 0.1]])
    assert log_weights(d, 3, 1.4).exp().tolist()[0] == pytest.approx([2.0, 1.0, 2.0])


def test_weights_equal_the_formula_and_vanish_beyond_the_cut():
    d = torch.tensor([[0.7, 1.2, 1.39, 1.45]], dtype=torch.float64)
    weights = log_weights(d, 32, 1.4)
    for k, value in enumerate((0.7, 1.2, 1.39)):
        slow = (2 - 32) * np.log(value) - (32 - 3) / 2 * np.log(1 - value**2 / 4)
        assert weights[0, k].item() == pytest.approx(slow)
    assert weights[0, 3] < weights[0, :3].min() - 40


def test_negatives_are_drawn_in_proportion_to_their_weights():
    # One anchor with one positive and three negatives at distances .5, 1 and 1.25 of a sphere.
    d = torch.full((5, 5), 1.0)
    d[0] = torch.tensor([0.0, 0.3, 0.5, 1.0, 1.25])
    labels = torch.tensor([0, 0, 1, 2, 3])
    drawn = Counter()
    for _ in range(6000):
        anchor, _, negative = triplets(by_distance(d, 3, 1.4), labels)
        drawn[int(negative[anchor == 0])] += 1
    share = {k: drawn[k] / 6000 for k in (2, 3, 4)}
    total = 2 + 1 + 0.8
    for k, weight in zip((2, 3, 4), (2, 1, 0.8), strict=True):
        assert share[k] == pytest.approx(weight / total, abs=0.03)


SPACE = declared(DivideConquer)


@pytest.mark.parametrize("margin", [*SPACE["margin"].corners(), 0.2])
@pytest.mark.parametrize("boundary", [*SPACE["boundary"].corners(), 1.2])
def test_negatives_are_drawn_up_to_where_their_loss_is_zero(monkeypatch, boundary, margin):
    """One positive pair among points all over a sphere, where the weight of a distance is 1/d."""
    pole, others = torch.tensor([[0.0, 0.0, 1.0]]), torch.randn(60, 3)
    z = normalize(torch.cat([pole, pole, others])).double()
    labels = torch.cat([torch.tensor([0, 0]), torch.arange(1, 61)])
    drawn = []

    def hinges(near, far, *, boundary, margin):
        drawn.extend(far.tolist())
        return near.sum() + far.sum()

    monkeypatch.setattr(_margin, "hinges", hinges)
    for _ in range(1000):
        margin_loss(z, labels, boundary=boundary, margin=margin, weighted=True)
    d = (z[0] - z[2:]).norm(dim=1).numpy()
    weights = np.where(d < boundary + margin, 1 / np.maximum(d, 0.5), 0.0)
    for low, high in ((0.0, 0.5), (0.5, 1.0), (1.0, 1.4), (1.4, 2.0)):
        expected = weights[(low <= d) & (d < high)].sum() / weights.sum()
        share = np.mean([low <= x < high for x in drawn])
        assert share == pytest.approx(expected, abs=4.5 * np.sqrt(0.25 / len(drawn)))
    assert len(drawn) == 2000
    assert max(drawn) < boundary + margin


def test_every_positive_pair_gets_a_negative_of_its_own():
    rng = np.random.default_rng(0)
    for seed in range(30):
        seeded(seed)
        labels = torch.from_numpy(rng.integers(0, 4, 12))
        z = normalize(torch.from_numpy(rng.normal(size=(12, 4))))
        d = torch.cdist(z, z)
        anchor, positive, negative = (t.tolist() for t in triplets(by_distance(d, 4, 1.4), labels))
        y = labels.tolist()
        for a, p, n in zip(anchor, positive, negative, strict=True):
            assert y[a] == y[p] != y[n]
            assert a != p
        for a in range(12):
            mates = y.count(y[a]) - 1
            mine = [n for b, n in zip(anchor, negative, strict=True) if a == b]
            assert len(mine) == len(set(mine)) == min(mates, 12 - 1 - mates)


def test_nearest_negatives_beyond_a_half():
    d = torch.tensor([[0.0, 0.2, 0.4, 0.9, 0.6]] * 5)
    labels = torch.tensor([0, 0, 1, 2, 3])
    anchor, _, negative = triplets(by_nearness(d), labels)
    assert negative[anchor == 0].tolist() == [4], "0.4 is too near, 0.9 not the nearest"


def test_a_batch_without_pairs_costs_nothing():
    z = torch.randn(4, 3, requires_grad=True)
    loss = margin_loss(z, torch.arange(4), boundary=1.2, margin=0.2, weighted=True)
    loss.backward()
    assert loss.item() == 0.0
    assert not z.grad.any()


# Slices and phases.


def step(method, epoch, group=1):
    features = toy_features().requires_grad_()
    batch = replace(toy_batch(), group=group, epoch=epoch, step=epoch * SPEC.steps_per_epoch)
    (value,) = method.losses(method(as_features(features)), batch).values()
    value.backward()
    return method.head.weight.grad, features.grad


def test_a_learner_moves_its_slice_only_then_all():
    # 10 epochs, divided for 9.5; slices alone before epoch 4.
    method = build(DivideConquer, {"learners": 4, "finetune": 0.95})
    rows, trunk = step(method, epoch=3)
    width = SPEC.embedding_size // 4
    inside = torch.zeros(SPEC.embedding_size, dtype=torch.bool)
    inside[width : 2 * width] = True
    assert not rows[~inside].any()
    assert rows[inside].any(dim=1).all()
    assert trunk.any()
    method.zero_grad()
    rows, _ = step(method, epoch=4)
    assert rows.any(dim=1).all()


def test_the_embedding_is_unit_slices_in_a_row():
    method = build(DivideConquer, {"learners": 8})
    embedding = method.eval()(as_features(toy_features()))["embedding"]
    parts = method.split(embedding)
    assert [part.shape[1] for part in parts] == [2, 2, 2, 2, 1, 1, 1, 1]
    for part in parts:
        torch.testing.assert_close(part.norm(dim=1), torch.ones(32))


def probe(view):
    assert view == "vector"
    return as_features(toy_features()).vector.numpy()


def draws_of(method, epoch, count=20, seed=0):
    plan = method.plan(epoch, probe, np.random.default_rng(seed))
    return None if plan is None else list(itertools.islice(plan, count))


def test_draws_hold_one_cluster_and_no_image_that_is_alone():
    labels = np.repeat(np.arange(16), 2)
    spec = replace(SPEC, labels=labels, classes=16, batch_size=16)
    for seed in range(5):
        method = DivideConquer(spec, learners=2)
        drawn = draws_of(method, 0, seed=seed)
        clusters = method.clusters.numpy()
        for draw in drawn:
            assert set(clusters[draw.index]) == {draw.group}
            for label in np.unique(labels[draw.index]):
                inside = (labels == label) & (clusters == draw.group)
                assert inside.sum() >= 2
                assert len(set(draw.index[labels[draw.index] == label])) >= 2
        groups = [draw.group for draw in drawn]
        able = sorted(set(groups))
        assert all(
            b == able[(able.index(a) + 1) % len(able)] for a, b in itertools.pairwise(groups)
        )


def test_singles_are_left_out():
    labels = np.array([0, 0, 1, 2, 2, 2])
    found = members(np.array([True, True, True, True, False, True]), labels)
    assert [index.tolist() for index in found] == [[0, 1], [3, 5]]


def test_some_repeats_only_where_it_must():
    rng = np.random.default_rng(0)
    for have, want in ((3, 7), (8, 8), (9, 4), (2, 1)):
        counts = Counter(some(np.arange(have), want, rng).tolist())
        assert sum(counts.values()) == want
        assert max(counts.values()) <= -(-want // have)


def test_a_small_cluster_repeats_its_classes():
    # Two classes in a cluster, and a batch has room for eight.
    method = build(DivideConquer, {"learners": 2})
    method.clusters[:] = 1
    method.clusters[:8] = 0
    (draw, _) = itertools.islice(method.plan(1, probe, np.random.default_rng(0)), 2)
    learner, other = (draw, _) if draw.group == 0 else (_, draw)
    assert Counter(SPEC.labels[learner.index].tolist()) == {0: 16, 1: 16}
    assert len(set(SPEC.labels[other.index])) == 6


def test_clusters_without_pairs_are_passed_over_or_refused():
    method = build(DivideConquer, {"learners": 2})
    method.clusters[:] = 0
    method.clusters[:2] = 1  # one class only
    assert {draw.group for draw in draws_of(method, 1)} == {0}
    lonely = DivideConquer(replace(SPEC, labels=np.arange(32), classes=32), learners=2)
    with pytest.raises(InvalidInputError, match="none of 2 clusters"):
        draws_of(lonely, 0)


def test_clusters_are_made_every_second_epoch_and_keep_their_names():
    method = build(DivideConquer, {"learners": 4, "finetune": 0.95})
    asked, clouds = [], np.eye(8)[SPEC.labels // 2] + np.arange(32)[:, None] * 1e-3

    def counting(view):
        asked.append(view)
        return clouds.astype(np.float32)

    kept = []
    for epoch in range(6):
        method.plan(epoch, counting, np.random.default_rng(epoch))
        kept.append(method.clusters.clone())
    assert asked == ["vector"] * 3
    assert torch.equal(kept[0], kept[1])
    # The same clouds from other starts: names would be shuffled without the matching.
    assert all(torch.equal(clusters, kept[0]) for clusters in kept)
    assert len(set(kept[0].tolist())) == 4


def test_compat_uses_the_transposed_matching(monkeypatch):
    class Compat(DivideConquer):
        """As released."""

        compat = True

    seen = []
    import protocols.methods.divide_conquer as module

    def spy(new, old, count, *, transposed):
        seen.append(transposed)
        return new

    monkeypatch.setattr(module, "renamed", spy)
    for cls in (DivideConquer, Compat):
        method = cls(SPEC)
        for epoch in (0, 2):
            method.plan(epoch, probe, np.random.default_rng(0))
    assert seen == [False, True]


def test_all_learners_join_in_the_end_and_one_learner_never_divides():
    method = build(DivideConquer, {"learners": 4, "finetune": 0.3})
    assert draws_of(method, 2) is not None
    assert draws_of(method, 3) is None
    assert draws_of(build(DivideConquer, {"learners": 1}), 0) is None


def test_state_between_clusterings_gives_the_same_draws():
    first = build(DivideConquer)
    draws_of(first, 0)
    second = build(DivideConquer, seed=5)
    second.load_state_dict(first.state_dict())
    a, b = (draws_of(method, 1, seed=3) for method in (first, second))
    assert [d.index.tolist() for d in a] == [d.index.tolist() for d in b]
    assert [d.group for d in a] == [d.group for d in b]


def test_one_batch_without_a_learner_sees_the_whole():
    method = build(DivideConquer)
    views = {"embedding": torch.randn(8, SPEC.embedding_size)}
    labels = torch.arange(8) // 4
    whole = Batch(labels, torch.arange(8), group=None, step=0, epoch=0)
    late = replace(whole, group=2, epoch=9)
    values = []
    for batch in (whole, late):
        seeded(1)
        values.append(method.losses(views, batch)["loss"].item())
    assert values[0] == values[1]
