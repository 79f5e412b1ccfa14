"""Divide and Conquer's loss: its hinges, and which negatives it draws."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.methods import _margin
from protocols.methods._margin import (
    by_distance,
    by_nearness,
    hinges,
    log_weights,
    margin_loss,
    triplets,
)
from protocols.methods.divide_conquer import DivideConquer
from protocols.space import declared
from tests.protocols.methods.loops import seeded


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
