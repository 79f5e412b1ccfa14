"""Circle loss."""

import numpy as np
import pytest
import torch

from protocols.methods.circle import Circle
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cosines,
    log_sum_exp,
    mean,
    others,
    random_batch,
    solved_batch,
)


def test_golden_value():
    got = build(Circle, m=0.25, gamma=2.0)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(2.38719381, rel=0, abs=5e-8)


def loop_circle(z, labels, m, gamma):
    s, values = cosines(z), []
    for i, positive, negative in others(labels):
        if not positive or not negative:
            values.append(0.0)
            continue
        near = [-gamma * max(0, 1 + m - s[i][p]) * (s[i][p] - (1 - m)) for p in positive]
        far = [gamma * max(0, s[i][n] + m) * (s[i][n] - m) for n in negative]
        values.append(log_sum_exp([0.0, log_sum_exp(near) + log_sum_exp(far)]))
    return mean(values)


def test_circle_equals_loops():
    rng = np.random.default_rng(1)
    for _ in range(80):
        z, labels = random_batch(rng)
        m, gamma = float(rng.uniform(0, 1)), float(10 ** rng.uniform(0, 2.5))
        got = build(Circle, m=m, gamma=gamma)(z, labels).item()
        assert got == pytest.approx(loop_circle(z, labels, m, gamma), rel=1e-7, abs=1e-8)


def test_solved_anchors_still_count_when_their_loss_underflows():
    """A solved anchor's loss is exactly 0 in float32; the mean must still count it."""
    z, labels = solved_batch()
    expected = loop_circle(z, labels, m=0.4, gamma=512.0)
    assert expected > 0.5
    got = build(Circle, torch.float32, m=0.4, gamma=512.0)(z.float(), labels)
    assert got.item() == pytest.approx(expected, rel=1e-4)
