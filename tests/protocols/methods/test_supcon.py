"""Supervised contrastive loss."""

import numpy as np
import pytest
import torch

from protocols.methods.supcon import SupCon
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
    got = build(SupCon, temperature=0.5)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.98983557, rel=0, abs=5e-8)


def loop_supcon(z, labels, temperature):
    s, values = cosines(z), []
    for i, positive, negative in others(labels):
        if not positive:
            values.append(0.0)
            continue
        total = log_sum_exp([s[i][j] / temperature for j in positive + negative])
        values.append(mean(total - s[i][p] / temperature for p in positive))
    return mean(values) if any(negative for _, _, negative in others(labels)) else 0.0


def test_supcon_equals_loops():
    rng = np.random.default_rng(0)
    for _ in range(80):
        z, labels = random_batch(rng)
        t = float(10 ** rng.uniform(-2, 0))
        got = build(SupCon, temperature=t)(z, labels).item()
        assert got == pytest.approx(loop_supcon(z, labels, t), rel=1e-8, abs=1e-10)


def test_solved_anchors_still_count_when_their_loss_underflows():
    """A solved anchor's loss is exactly 0 in float32; the mean must still count it."""
    z, labels = solved_batch()
    expected = loop_supcon(z, labels, temperature=0.01)
    assert expected > 0.5
    got = build(SupCon, torch.float32, temperature=0.01)(z.float(), labels)
    assert got.item() == pytest.approx(expected, rel=1e-4)
