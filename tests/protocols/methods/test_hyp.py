"""Hyp: distances in the ball, and NT-Xent on them."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.methods._hyperbolic import hyperbolic
from protocols.methods.hyp import Hyp
from tests.protocols.methods.loops import (
    FIXTURE_LABELS,
    build,
    gradient,
    log_sum_exp,
    mean,
    pairs_of,
    random_batch,
)

U = torch.tensor([[1.0, 0.0], [1.0, math.sqrt(3.0)], [0.0, 3.0], [-0.5, 0.0]], dtype=torch.float64)


def ball_point(u, c, clip):
    """Return the point of the ball that a vector (a list) stands for."""
    length, k = math.hypot(*u), math.sqrt(c)
    scale = math.tanh(k * min(length, clip)) / k / length if length else 0.0
    return [scale * v for v in u]


def loop_distance(x, y, c):
    """Return 2 / k artanh(k |-x (+) y|) by Moebius addition."""
    x, k = [-v for v in x], math.sqrt(c)
    xy, xx, yy = (sum(map(math.prod, zip(a, b, strict=True))) for a, b in ((x, y), (x, x), (y, y)))
    ahead, aside, below = 1 + 2 * c * xy + c * yy, 1 - c * xx, 1 + 2 * c * xy + c * c * xx * yy
    moved = [(ahead * a + aside * b) / below for a, b in zip(x, y, strict=True)]
    return 2 / k * math.atanh(k * math.hypot(*moved))


def loop_distances(rows, others, c, clip):
    first, second = ([ball_point(u, c, clip) for u in part.tolist()] for part in (rows, others))
    return [[loop_distance(x, y, c) for y in second] for x in first]


def test_golden_distances():
    d = hyperbolic(U, curvature=0.1, clip=2.3)
    got = [d[i, j].item() for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))]
    expected = [3.68061710, 5.24988782, 3.00000000, 2.92833330, 4.61992414, 4.77248766]
    assert got == pytest.approx(expected, rel=0, abs=5e-9)


def test_golden_points_of_ball_and_hyperboloid():
    """The distance from the centre says where both models have the point of (0, 3)."""
    c, k = 0.1, math.sqrt(0.1)
    away = hyperbolic(U[2:3], torch.zeros(1, 2, dtype=torch.float64), curvature=c, clip=2.3).item()
    assert math.tanh(k * away / 2) / k == pytest.approx(1.96511961, rel=0, abs=5e-9)
    point = (math.sinh(k * away) / k, math.cosh(k * away) / k)
    assert point == pytest.approx((6.40280874, 7.14114555), rel=0, abs=5e-9)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 6.32605033),
        ({"temperature": 1.0}, 1.64308251),
        ({"curvature": 1.0, "clip": 1.0}, 2.39045212),
    ],
)
def test_golden_losses(settings, expected):
    got = build(Hyp, **settings)(U, FIXTURE_LABELS).item()
    assert got == pytest.approx(expected, rel=0, abs=5e-9)


def test_distances_equal_loops_in_the_ball():
    rng = np.random.default_rng(0)
    for _ in range(60):
        c, clip = float(10 ** rng.uniform(-2, 0)), float(rng.choice([1.0, 2.3]))
        rows, others = (random_batch(rng, size=3)[0] for _ in range(2))
        got = hyperbolic(rows, others, curvature=c, clip=clip)
        expected = torch.tensor(loop_distances(rows, others, c, clip), dtype=torch.float64)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_the_loss_equals_loops():
    rng = np.random.default_rng(1)
    for _ in range(60):
        c, clip = float(10 ** rng.uniform(-2, 0)), float(rng.choice([1.0, 2.3]))
        t = float(10 ** rng.uniform(-1.5, 0.3))
        z, labels = random_batch(rng)
        d, (positive, negative) = loop_distances(z, z, c, clip), pairs_of(labels)
        values = []
        for i, p in positive:
            against = [-d[i][n] / t for a, n in negative if a == i]
            values.append(log_sum_exp([-d[i][p] / t, *against]) + d[i][p] / t)
        expected = mean(values) if negative else 0.0
        got = build(Hyp, temperature=t, curvature=c, clip=clip)(z, labels).item()
        assert got == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_for_two_images_a_class_the_released_loss_is_twice_this_one():
    z = torch.from_numpy(np.random.default_rng(2).normal(size=(6, 4)))
    labels, total = torch.tensor([0, 1, 2, 0, 1, 2]), 0.0
    s = -hyperbolic(z, curvature=0.1, clip=2.3) / 0.2
    for first, second in ((slice(0, 3), slice(3, 6)), (slice(3, 6), slice(0, 3))):
        own = s[first, first] - 1e9 * torch.eye(3)
        logits = torch.cat([s[first, second], own], 1)
        total += torch.nn.functional.cross_entropy(logits, torch.arange(3)).item()
    assert build(Hyp)(z, labels).item() == pytest.approx(total / 2, rel=1e-9)


def test_beyond_the_clip_lengths_do_not_matter_and_the_order_is_that_of_the_angle():
    z = normalize(torch.from_numpy(np.random.default_rng(3).normal(size=(12, 5)))) * 2.31
    labels, long = torch.arange(12) // 2, z * torch.linspace(1, 40, 12)[:, None]
    loss = build(Hyp)
    assert loss(long, labels).item() == pytest.approx(loss(z, labels).item(), rel=1e-12)
    d, s = hyperbolic(long, curvature=0.1, clip=2.3), normalize(z) @ normalize(z).T
    off = ~torch.eye(12, dtype=torch.bool)
    order = d[off].view(12, 11).argsort(1)
    assert torch.equal(order, (-s[off].view(12, 11)).argsort(1))


def test_inside_the_clip_lengths_count():
    short = 0.1 * U
    assert build(Hyp)(short, FIXTURE_LABELS) != build(Hyp)(2 * short, FIXTURE_LABELS)


def test_close_points_keep_their_distance_and_gradient_in_float32():
    """Through the hyperboloid at curvature 1 a distance of 1e-3 would be 0 or noise."""
    z = normalize(torch.from_numpy(np.random.default_rng(4).normal(size=(2, 8)))) * 3
    rows = torch.stack([z[0], z[0] + 3e-4 * z[1]])
    exact = hyperbolic(rows, curvature=1.0, clip=2.3)[0, 1].item()
    got = hyperbolic(rows.float(), curvature=1.0, clip=2.3)[0, 1].item()
    assert got == pytest.approx(exact, rel=1e-3)

    def distance(rows, labels):
        return hyperbolic(rows, curvature=1.0, clip=2.3)[0, 1]

    ours, wanted = gradient(distance, rows.float(), None), gradient(distance, rows, None)
    torch.testing.assert_close(ours.double(), wanted, rtol=1e-2, atol=1e-2)
    assert gradient(distance, rows[[0, 0]].float(), None).eq(0).all(), "equal points: 0, not NaN"


def test_no_search_tries_the_form_of_the_reality_check():
    assert Hyp.space("cub200")["compat"].options == (False,)
    assert Hyp.space("cub200")["temperature"].high == 2.0
