"""FastAP: loops, the library, bins that keep their gradient."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library

from protocols.methods.fastap import FastAP, shares
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    gradient,
    mean,
    pairs_of,
    random_batch,
    unit,
)


def test_golden_value():
    got = build(FastAP, bins=4)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.29166667, rel=0, abs=5e-8)


def loop_fastap(z, labels, bins):
    u, (positive, negative) = unit(z), pairs_of(labels)
    values = []
    for i in range(len(u)):
        mine = [math.dist(u[i], u[p]) ** 2 for a, p in positive if a == i]
        rest = [math.dist(u[i], u[n]) ** 2 for a, n in negative if a == i]
        if not mine:
            continue
        ap = seen = seen_mine = 0.0
        for edge in range(bins + 1):
            near, far = (
                math.fsum(max(0.0, 1 - abs(d - 4 * edge / bins) * bins / 4) for d in part)
                for part in (mine, rest)
            )
            seen, seen_mine = seen + near + far, seen_mine + near
            ap += near * seen_mine / seen if seen else 0.0
        values.append(1 - ap / len(mine))
    return mean(values)


@pytest.mark.parametrize("bins", [2, 10, 32])
def test_fastap_equals_loops(bins):
    rng = np.random.default_rng(3)
    for _ in range(40):
        z, labels = random_batch(rng)
        got = build(FastAP, bins=bins)(z, labels).item()
        assert got == pytest.approx(loop_fastap(z, labels, bins), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("bins", [2, 10, 250])
def test_fastap_equals_the_librarys_in_value_and_gradient(bins):
    rng = np.random.default_rng(17)
    theirs = library.FastAPLoss(num_bins=bins)
    for _ in range(20):
        z, labels = random_batch(rng)
        if not pairs_of(labels)[0]:
            continue
        ours = build(FastAP, bins=bins)
        assert ours(z, labels).item() == pytest.approx(theirs(z, labels).item(), rel=1e-9)
        torch.testing.assert_close(
            gradient(ours, z, labels), gradient(theirs, z, labels), rtol=1e-6, atol=1e-9
        )


def test_shares_of_a_value_are_the_triangles_around_its_two_centres():
    x = torch.linspace(0, 5, 401, dtype=torch.float64)[:, None].requires_grad_()
    got = shares(x, 5)[:, 0]
    slow = [[max(0.0, 1 - abs(v - c)) for c in range(6)] for v in x.detach()[:, 0].tolist()]
    torch.testing.assert_close(got, torch.tensor(slow, dtype=torch.float64), atol=1e-12, rtol=0)
    near = torch.tensor([[1e-9]], requires_grad=True)  # where 1 - x is 1 in float32
    (slope,) = torch.autograd.grad(shares(near, 5)[0, 0, 1], near)
    assert slope.item() == 1.0
