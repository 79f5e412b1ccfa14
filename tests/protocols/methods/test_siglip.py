"""The sigmoid loss on class labels."""

import math

import numpy as np
import pytest
import torch

from protocols.methods.siglip import SigLIP
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cosines,
    gradient,
    pairs_of,
    random_batch,
)


@pytest.mark.parametrize(
    ("scale", "bias", "expected"),
    [(10.0, -10.0, 7.61971732), (10.0, -5.0, 4.69613913), (1.0, 0.0, 1.93241442)],
)
def test_golden_values(scale, bias, expected):
    built = build(SigLIP, scale=scale, bias=bias)
    assert built.loss.log_scale.item() == pytest.approx(math.log(scale), rel=1e-7)
    with torch.no_grad():
        built.loss.log_scale.fill_(math.log(scale))  # it starts as a float32
    assert built(FIXTURE, FIXTURE_LABELS).item() == pytest.approx(expected, rel=0, abs=5e-9)


def loop(z, labels, t, b):
    s, (positive, negative) = cosines(z), pairs_of(labels)
    lost = [softplus(-(t * s[i][j] + b)) for i, j in positive]
    lost += [softplus(t * s[i][j] + b) for i, j in negative]
    return math.fsum(lost) / len(s)


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def test_it_equals_loops():
    rng = np.random.default_rng(0)
    for _ in range(60):
        t, b = float(10 ** rng.uniform(0, 2)), float(rng.uniform(-20, 0))
        z, labels = random_batch(rng)
        built = build(SigLIP, scale=t, bias=b)
        t, b = built.loss.log_scale.exp().item(), built.loss.bias.item()
        assert built(z, labels).item() == pytest.approx(loop(z, labels, t, b), rel=1e-9)


def test_scale_and_bias_learn_at_their_own_rate_without_decay():
    (term,) = SigLIP.make_terms(build(SigLIP, balance_lr=0.02).method, None)
    group = term.group()
    assert (group.lr, group.decay, len(group.parameters)) == (0.02, False, 2)
    built = build(SigLIP)
    for _ in range(300):  # on solved classes both grow until no pair is wrong
        built(FIXTURE[[0, 0, 3, 3]], FIXTURE_LABELS).backward()
        with torch.no_grad():
            for parameter in built.loss.parameters():
                parameter -= 0.1 * parameter.grad
        built.method.zero_grad()
    assert built(FIXTURE[[0, 0, 3, 3]], FIXTURE_LABELS) < 0.05


def test_far_pairs_keep_their_gradient_in_float32():
    """ln(1 + exp) by hand would be 0 or infinite where a pair is far on the wrong side."""
    exact = gradient(build(SigLIP, scale=100.0, bias=-20.0), FIXTURE, FIXTURE_LABELS)
    single = build(SigLIP, torch.float32, scale=100.0, bias=-20.0)
    got = gradient(single, FIXTURE.float(), FIXTURE_LABELS).double()
    assert (got - exact).norm() < 1e-4 * exact.norm()
