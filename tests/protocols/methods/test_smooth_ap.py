"""Smooth-AP, also where the library's breaks."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library

from protocols.methods.smooth_ap import SmoothAP
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    loop_ap,
    random_batch,
    sigmoid,
    true_missed_ap,
)


def test_golden_value():
    got = build(SmoothAP, temperature=0.1)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.13832431, rel=0, abs=5e-8)


def loop_smooth_ap(z, labels, temperature):
    def soft(lead):
        return sigmoid(lead / temperature)

    return loop_ap(z, labels, soft, soft)


def test_smooth_ap_equals_loops():
    rng = np.random.default_rng(2)
    for _ in range(80):
        z, labels = random_batch(rng)
        t = float(10 ** rng.uniform(-3, -1))
        got = build(SmoothAP, temperature=t)(z, labels).item()
        assert got == pytest.approx(loop_smooth_ap(z, labels, t), rel=1e-6, abs=1e-9)


SHAPES = {"4 x 4": (4, 4), "6 x 2": (6, 2), "2 x 6": (2, 6), "4 x 2": (4, 2)}


def shaped_batch(classes, per_class, seed=10):
    labels = torch.arange(classes).repeat_interleave(per_class)
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(len(labels), 5))), labels


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_smooth_ap_of_any_shape_and_order(shape):
    z, labels = shaped_batch(*shape)
    order = torch.from_numpy(np.random.default_rng(11).permutation(len(labels)))
    expected = loop_smooth_ap(z, labels, 0.01)
    ours, theirs = build(SmoothAP), library.SmoothAPLoss(temperature=0.01)
    assert ours(z, labels).item() == pytest.approx(expected, rel=1e-6)
    assert ours(z[order], labels[order]).item() == pytest.approx(expected, rel=1e-6)
    assert theirs(z[order], labels[order]).item() != pytest.approx(expected, rel=1e-3)
    if shape[0] != shape[1]:
        assert theirs(z, labels).item() != pytest.approx(expected, rel=1e-3)
    else:
        assert theirs(z, labels).item() == pytest.approx(expected, rel=1e-3)


def test_smooth_ap_tends_to_average_precision():
    rng = np.random.default_rng(12)
    z, labels = torch.from_numpy(rng.normal(size=(20, 8))), torch.arange(20) % 5
    gaps = [
        abs(build(SmoothAP, temperature=t)(z, labels).item() - true_missed_ap(z, labels))
        for t in (0.1, 0.01, 0.001)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.01
