"""Metrix: Multi-Similarity on pairs and on mixtures."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.conformance import SPEC
from protocols.methods.metrix import Metrix
from protocols.methods.ms import MultiSimilarity
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cosines,
    gradient,
    mean,
    random_batch,
)

TURN = torch.tensor([1, 2, 3, 0])


def share_of(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("beta", "clean", "mixed"), [(50.0, 0.68461492, 0.51007439), (10.0, 0.68605824, 0.53015204)]
)
def test_golden_values(beta, clean, mixed):
    method = build(Metrix, beta=beta).method
    got = method.terms[0]({"embedding": FIXTURE}, FIXTURE_LABELS).item()  # in float32
    assert got == pytest.approx(clean, rel=0, abs=5e-7)
    got = method.terms[0].loss(FIXTURE, FIXTURE_LABELS).item()
    assert got == pytest.approx(clean, rel=0, abs=5e-9)
    got = method.against(FIXTURE, FIXTURE_LABELS, share_of(0.6), TURN).item()
    assert got == pytest.approx(mixed, rel=0, abs=5e-9)


def loop(z, labels, q, partner, alpha, beta, base):
    unit, y, p = normalize(z), labels.tolist(), partner.tolist()
    mixtures = torch.stack([q * unit[j] + (1 - q) * unit[p[j]] for j in range(len(y))])
    s, values = cosines(unit, mixtures), []
    for i in range(len(y)):
        near = far = 0.0
        for j in range(len(y)):
            if i in (j, p[j]):
                continue
            share = q * (y[i] == y[j]) + (1 - q) * (y[i] == y[p[j]])
            near += share * math.exp(-alpha * (s[i][j] - base))
            far += (1 - share) * math.exp(beta * (s[i][j] - base))
        values.append(math.log1p(near) / alpha + math.log1p(far) / beta)
    return mean(values)


def test_mixtures_equal_loops():
    rng = np.random.default_rng(0)
    for _ in range(60):
        alpha, beta = float(10 ** rng.uniform(-1, 1)), float(10 ** rng.uniform(0, 2))
        base, q = float(rng.uniform(0, 1)), float(rng.choice([0.0, 1.0, rng.uniform()]))
        z, labels = random_batch(rng)
        partner = torch.from_numpy(rng.permutation(len(z)))
        method = build(Metrix, alpha=alpha, beta=beta, base=base).method
        got = method.against(normalize(z), labels, share_of(q), partner).item()
        expected = loop(z, labels, q, partner, alpha, beta, base)
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_without_mixing_the_mixed_loss_is_the_clean_one():
    rng = np.random.default_rng(1)
    for _ in range(20):
        z, labels = random_batch(rng)
        method = build(Metrix, beta=50.0).method
        alone = torch.arange(len(z))
        got = method.against(normalize(z), labels, share_of(1.0), alone).item()
        clean = build(MultiSimilarity, beta=50.0)(z, labels).item()
        assert got == pytest.approx(clean, rel=1e-9, abs=1e-12)


def test_a_batch_draws_one_share_and_one_permutation():
    method = Metrix(SPEC, shape=2.0)
    shares = torch.stack([method.noise(8)[0] for _ in range(2000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert shares.var().item() == pytest.approx(0.05, abs=0.006)  # of Beta(2, 2)
    share, partner = method.noise(8)
    assert share.shape == ()
    assert sorted(partner.tolist()) == list(range(8))
    method.drawn = (torch.tensor(0.6), TURN)  # as on a GPU, where it was drawn before
    got = method.mixed(FIXTURE, FIXTURE_LABELS).item()
    expected = loop(FIXTURE, FIXTURE_LABELS, 0.6, TURN, 2.0, 40.0, 0.5)
    assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_opposite_and_equal_partners_give_a_finite_gradient(share):
    method = build(Metrix, torch.float32).method
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])

    def mixed(z, labels):
        return method.against(normalize(z), labels, torch.tensor(share), torch.tensor([1, 0, 3, 2]))

    for labels in (FIXTURE_LABELS, torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        assert gradient(mixed, z, labels).isfinite().all()
