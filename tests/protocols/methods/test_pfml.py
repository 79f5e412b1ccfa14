"""PFML: the potential energy of embeddings and proxies."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.conformance import SPEC
from protocols.methods import pfml
from protocols.methods.pfml import Field, PotentialField
from protocols.space import defaults
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    gradient,
    random_batch,
)

TWO = torch.eye(2, dtype=torch.float64)


def field(proxies, alpha, delta):
    """Return the loss with (C, M, D) proxies."""
    classes, count, size = proxies.shape
    made = Field(classes, size, proxies=count, alpha=alpha, delta=delta).double()
    with torch.no_grad():
        made.proxies.copy_(proxies)
    return made


@pytest.mark.parametrize(
    ("alpha", "delta", "expected"), [(4.0, 0.2, 2.33200000), (2.0, 0.6, 2.20235886)]
)
def test_golden_values_with_proxies(alpha, delta, expected):
    got = field(TWO[:, None], alpha, delta)(FIXTURE, FIXTURE_LABELS).item()
    assert got == pytest.approx(expected, rel=0, abs=5e-9)
    if delta == 0.6:  # the paper's units: a sum over the points, without the factor delta^alpha
        assert got * 6 * 0.6**-2 == pytest.approx(36.70598101, rel=0, abs=1e-7)


def test_golden_value_of_points_alone():
    loss = field(TWO[:, None], 2.0, 1.1)
    got = loss.potential(FIXTURE, FIXTURE_LABELS).mean().item()
    assert got == pytest.approx(2.95539074, rel=0, abs=5e-9)


def loop(points, of, alpha, delta, at=None):
    """Return the mean potential at some of (P, D) points, the floor at delta / 4."""
    rows, found = points.tolist(), []
    for i in range(len(rows)) if at is None else at:
        made = []
        for j in range(len(rows)):
            d = math.dist(rows[i], rows[j])
            if j == i:
                continue
            if of[i] == of[j]:
                made.append(-1.0 if d < delta else -((delta / d) ** alpha))
            else:
                made.append((delta / max(d, delta / 4)) ** alpha if d < delta else 1.0)
        found.append(math.fsum(made))
    return math.fsum(found) / len(found)


def case(rng):
    """Return a loss with random proxies and settings, and a batch, some points close by."""
    count = int(rng.integers(1, 5))
    alpha, delta = float(rng.uniform(0.25, 6)), float(rng.uniform(0.1, 0.3))
    proxies = torch.from_numpy(rng.normal(size=(4, count, 3)))
    z, labels = random_batch(rng, size=3)
    near = proxies[torch.from_numpy(rng.integers(0, 4, len(z))), 0]
    mixed = torch.from_numpy(rng.random(len(z)) < 0.5)[:, None]
    z = torch.where(mixed, near + 0.1 * z, z)
    return field(proxies, alpha, delta), z, labels


@pytest.mark.parametrize("whole", [True, False], ids=["all points", "the batch's classes"])
def test_it_equals_loops(whole, monkeypatch):
    monkeypatch.setattr(pfml, "WHOLE", 2048 if whole else 0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        loss, z, labels = case(rng)
        count = loss.proxies.shape[1]
        points = torch.cat([normalize(z), normalize(loss.proxies.detach(), dim=2).flatten(0, 1)])
        of = labels.tolist() + [c for c in range(4) for _ in range(count)]
        here = set(labels.tolist())
        at = [i for i in range(len(points)) if whole or i < len(z) or of[i] in here]
        expected = loop(points, of, loss.alpha, loss.delta, at)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-7)


def test_where_all_classes_are_in_the_batch_both_means_are_one(monkeypatch):
    rng = np.random.default_rng(1)
    loss, _, _ = case(rng)
    z, labels = torch.from_numpy(rng.normal(size=(9, 3))), torch.arange(9) % 4
    values, grads = [], []
    for most in (2048, 0):
        monkeypatch.setattr(pfml, "WHOLE", most)
        loss.zero_grad()
        values.append(loss(z, labels))
        values[-1].backward()
        grads.append(loss.proxies.grad.clone())
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*grads)


def test_no_pair_of_a_class_closer_than_delta_is_moved():
    loss = field(TWO[:, None], 4.0, 0.2)
    z = torch.tensor([[0.0, 1.0], [0.1, 1.0]], dtype=torch.float64)
    both = torch.tensor([1, 1])  # with their proxy at (0, 1): three points within delta
    assert gradient(loss, z, both).abs().max() < 1e-12
    apart = torch.tensor([[0.0, 1.0], [0.5, 1.0]], dtype=torch.float64)
    assert gradient(loss, apart, both).abs().max() > 1e-3


@pytest.mark.parametrize("alpha", [0.25, 6.0])
def test_points_on_each_other_have_a_gradient_that_can_be_squared(alpha):
    loss = field(TWO[:, None].repeat(1, 3, 1), alpha, 0.1).float()
    z = torch.tensor([[0.0, 1.0], [0.001, 1.0], [1.0, 0.0], [1.0, 0.0]])
    grad = gradient(loss, z, torch.tensor([0, 1, 0, 1]))
    assert grad.square().isfinite().all()


def test_settings_published_for_a_dataset_and_the_rate_of_proxies():
    assert defaults(PotentialField.space("cub200"))["proxies"] == 15
    assert defaults(PotentialField.space("sop"))["proxies"] == 2
    built = build(PotentialField, proxies=3, proxy_lr=0.03)
    assert built.loss.proxies.shape == (SPEC.classes, 3, SPEC.embedding_size)
    assert built.terms[0].group().lr == 0.03
    with pytest.raises((IndexError, RuntimeError)):
        Field(3, 2, proxies=1, alpha=1.0, delta=0.1)(torch.ones(2, 2), torch.tensor([0, 3]))


def test_a_dataset_of_thousands_of_classes_costs_rows_of_the_batch_only():
    spec = replace(SPEC, classes=5000, embedding_size=4)
    (term,) = PotentialField(spec).terms
    seen = []
    whole = term.loss.potential

    def potential(points, of, rows=None, at=None):
        seen.append((len(points), None if rows is None else len(rows)))
        return whole(points, of, rows, at)

    term.loss.potential = potential
    z = torch.randn(32, 4, requires_grad=True)
    term.loss(z, torch.arange(32)).backward()
    assert seen == [(10_032, 96)]
    assert term.loss.proxies.grad.flatten(1).any(1).sum() > 32, "all proxies are sources"
