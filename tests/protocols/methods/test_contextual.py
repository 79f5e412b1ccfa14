"""Contextual similarity: shared neighbours, the hinge, the mean cosine."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.methods.contextual import Contextual, contextual
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cosines,
    gradient,
    mean,
    pairs_of,
    random_batch,
)


def at(degrees):
    turned = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([turned.cos(), turned.sin()], 1)


def method(count=4, **settings):
    return Contextual(replace(SPEC, images_per_class=count), **settings).double()


def test_golden_values_on_four_vectors():
    got = method(2).neighbours(FIXTURE, FIXTURE_LABELS).item()
    assert got == pytest.approx(0.26562500, rel=0, abs=5e-9)
    j = contextual(FIXTURE @ FIXTURE.T, 2, 0.05)
    got = [j[0, 1].item(), j[1, 2].item(), j[2, 3].item()]
    assert got == pytest.approx([0.25, 1.0, 0.25], rel=0, abs=5e-9)


@pytest.mark.parametrize(("count", "expected"), [(3, 0.13816551), (4, 0.13411458)])
def test_golden_values_on_six_vectors(count, expected):
    rows, labels = at([0.0, 20.0, 50.0, 70.0, 120.0, 200.0]), torch.tensor([0, 0, 0, 1, 1, 1])
    got = method(count).neighbours(rows, labels).item()
    assert got == pytest.approx(expected, rel=0, abs=5e-9)


def test_golden_total():
    built = method(2)
    total = sum(t.weight * t.loss(FIXTURE, FIXTURE_LABELS) for t in built.terms).item()
    assert total == pytest.approx(0.48929075, rel=0, abs=5e-9)
    assert [(t.name, t.weight) for t in built.terms] == [
        ("context", 0.4),
        ("spread", 0.1),
        ("contrastive", pytest.approx(0.5)),
    ]


def loop(z, labels, k, eps):
    """Return the mean disagreement of shared neighbours."""
    y, n = labels.tolist(), range(len(labels))
    k = min(k, len(y))
    d = [[2 - 2 * v for v in row] for row in cosines(z)]
    near = [{j for j in n if d[i][j] <= sorted(d[i])[k - 1] + eps} for i in n]
    close = [{j for j in n if d[i][j] <= sorted(d[i])[max(0, k // 2 - 1)] + eps} for i in n]
    far = [set(n) - found for found in near]
    w = [[0.0] * len(y) for _ in n]
    for i in n:
        for j in near[i]:
            neither = len(far[i] & far[j]) / len(far[i]) if far[i] else 0.0
            w[i][j] = (len(near[i] & near[j]) / len(near[i]) + neither) / 2
    jaccard = []
    for i in n:
        mutual = [q for q in close[i] if i in close[q]]
        jaccard.append([mean(w[q][j] for q in mutual) for j in n])
    total = 0.0
    for i, j in ((i, j) for i in n for j in n if i != j):
        v = (jaccard[i][j] + jaccard[j][i]) / 2
        total += (1 - v) ** 2 if y[i] == y[j] else v**2
    return total / len(y) ** 2


def test_each_term_equals_loops():
    rng = np.random.default_rng(0)
    for _ in range(60):
        pos, neg = float(rng.uniform(0.5, 1)), float(rng.uniform(0, 0.9))
        count = int(rng.integers(2, 7))
        built, (z, labels) = method(count, pos_margin=pos, neg_margin=neg), random_batch(rng)
        s, (positive, negative) = cosines(z), pairs_of(labels)
        pull = [pos - s[i][j] for i, j in positive if s[i][j] < pos]
        push = [s[i][j] - neg for i, j in negative if s[i][j] > neg]
        expected = [
            loop(z, labels, count, 0.05),
            (mean(v for row in s for v in row) - 0.25) ** 2,
            mean(pull) + mean(push),
        ]
        got = [term.loss(z, labels).item() for term in built.terms]
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)


def straight_through(z, start, labels, count):
    """Return the disagreement with each step in place of its line of slope 10 through ``start``."""

    def distances(rows):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return 2 - 2 * unit @ unit.T

    d, fixed = distances(z), distances(start)
    nearest = np.sort(fixed, 1)
    edge, half = (nearest[:, k - 1, None] + 0.05 for k in (count, count // 2))
    near = (fixed <= edge) + 10 * (fixed - d)
    closest = (fixed <= half) + 10 * (fixed - d)
    neighbours = (fixed <= edge).sum(1, keepdims=True)  # constants, as are those that are none
    both = near @ near.T / neighbours
    neither = (1 - near) @ (1 - near).T / (len(z) - neighbours)
    mutual = closest * closest.T
    j = mutual @ (near * (both + neither) / 2) / mutual.sum(1, keepdims=True)
    j = (j + j.T) / 2
    same = labels[:, None] == labels
    return (np.where(same, 1 - j, j) ** 2 * ~np.eye(len(z), dtype=bool)).sum() / len(z) ** 2


def test_the_gradient_equals_differences_of_the_released_form():
    """The mean over common neighbours is divided by a count that has a gradient of its own."""
    rng = np.random.default_rng(7)
    for count in (2, 4, 4, 5):
        z, labels = rng.normal(size=(12, 5)), np.arange(12) // 4
        expected = np.zeros_like(z)
        for place in np.ndindex(z.shape):
            step = np.zeros_like(z)
            step[place] = 1e-6
            up, down = (straight_through(z + s, z, labels, count) for s in (step, -step))
            expected[place] = (up - down) / 2e-6
        got = gradient(method(count).neighbours, torch.from_numpy(z), torch.from_numpy(labels))
        assert got.numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_perfect_clusters_of_k_images_cost_nothing():
    rows = torch.eye(5, dtype=torch.float64).repeat_interleave(4, 0)
    labels = torch.arange(5).repeat_interleave(4)
    assert method(4).neighbours(rows, labels).item() == pytest.approx(0, abs=1e-12)
    swapped = labels.clone()
    swapped[[0, 4]] = swapped[[4, 0]]
    assert method(4).neighbours(rows, swapped).item() > 0.05


def test_a_step_down_the_gradient_makes_neighbours_of_a_class():
    rng = np.random.default_rng(4)
    centres = torch.from_numpy(rng.normal(size=(4, 6))).repeat_interleave(4, 0)
    z = centres + 1.2 * torch.from_numpy(rng.normal(size=(16, 6)))
    labels, built = torch.arange(4).repeat_interleave(4), method(4)
    before = built.neighbours(z, labels).item()
    for _ in range(60):
        z = z - 0.1 * gradient(built.neighbours, z, labels)
    assert built.neighbours(z, labels).item() < before / 2


@pytest.mark.parametrize("count", [1, 2, 4])
def test_small_and_equal_batches_give_a_finite_gradient(count):
    built = build(Contextual, torch.float32).method
    for rows in (torch.ones(count, 3), torch.zeros(count, 3)):
        labels = torch.arange(count) // 2
        for term in built.terms:
            assert gradient(term.loss, rows, labels).isfinite().all()


def test_at_the_end_of_both_ranges_the_contrastive_part_is_gone():
    terms = method(context=0.85, spread=0.15).terms
    assert terms[2].weight == pytest.approx(0, abs=1e-12)
    assert terms[2].weight >= 0
