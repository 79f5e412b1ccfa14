"""Divide and Conquer: slices, phases, batches, published settings."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.errors import InvalidInputError
from protocols.method import Batch
from protocols.methods.divide_conquer import DivideConquer, members, some
from protocols.space import defaults
from protocols.toy_task import SPEC, as_features, build, toy_batch, toy_features
from tests.protocols.methods.loops import seeded


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


# Published settings.


def test_divide_and_conquer_starts_from_its_published_settings():
    assert defaults(DivideConquer.space("sop"))["learners"] == 8
    assert defaults(DivideConquer.space("inshop"))["finetune"] == 0.95
    first = defaults(DivideConquer.space("cub200"))
    assert (first["learners"], first["finetune"], first["every"]) == (4, 0.3, 2)
    assert (first["boundary"], first["margin"]) == (1.2, 0.2)
