"""ROADMAP: the upper bound of AP and the calibration."""

import numpy as np
import pytest
import torch

from protocols.methods.roadmap import Roadmap, overtaking, sup_ap
from tests.protocols.methods.loops import (
    build,
    cosines,
    gradient,
    loop_ap,
    mean,
    others,
    random_batch,
    sigmoid,
    true_missed_ap,
)


def released(lead):
    """Return what a negative adds to a rank: the authors' tau 100, offset 1.44, margin 0.05."""
    if lead > 0.05:
        return 1.44 + lead / 0.01
    return sigmoid(lead / 0.01) + (0.5 if lead > 0 else 0.0)


def loop_sup_ap(z, labels):
    return loop_ap(z, labels, lambda lead: float(lead >= 0), released)


def test_sup_ap_equals_loops():
    rng = np.random.default_rng(3)
    for _ in range(80):
        z, labels = random_batch(rng)
        assert sup_ap(z, labels).item() == pytest.approx(loop_sup_ap(z, labels), abs=1e-6)


def test_sup_ap_is_an_upper_bound_of_missed_average_precision():
    rng, gaps = np.random.default_rng(13), []
    for _ in range(150):
        z, labels = random_batch(rng)
        gaps.append(sup_ap(z, labels).item() - true_missed_ap(z, labels))
    assert min(gaps) > -1e-9
    assert max(gaps) > 0.1


def test_sup_ap_of_perfect_clusters_is_zero():
    z, labels = torch.eye(3, dtype=torch.float64).repeat_interleave(4, 0), torch.arange(12) // 4
    assert sup_ap(z, labels).item() == pytest.approx(0, abs=1e-12)


def test_positives_that_tie_count_before_each_other():
    z = torch.eye(4, dtype=torch.float64)[[0, 0, 1, 1, 2, 3, 3]]
    z[4, :2] = 1.0  # a stranger that stands before some of the tied
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    assert sup_ap(z, labels).item() == pytest.approx(loop_sup_ap(z, labels), abs=1e-9)


def test_overtaking_is_at_least_a_step_and_never_flat_where_wrong():
    lead = torch.linspace(-2, 2, 4001, dtype=torch.float64).requires_grad_()
    h = overtaking(lead)
    h.sum().backward()
    assert (h >= (lead > 0)).all()
    assert (h >= 0).all()
    assert (lead.grad[lead > 0] > 0.6).all()


def test_golden_overtaking_grows_with_the_lead():
    """Worked out by hand; from 0.05 on the line starts at the lead 0, not at 0.05."""
    golden = {
        -0.02: 0.11920292,
        0.0: 0.5,
        0.01: 1.23105858,
        0.05: 1.49330715,
        0.06: 7.44,
        0.1: 11.44,
        2.0: 201.44,
    }
    got = overtaking(torch.tensor(list(golden), dtype=torch.float64)).tolist()
    assert got == pytest.approx(list(golden.values()), rel=0, abs=5e-9)
    assert (overtaking(torch.linspace(-2, 2, 100_001, dtype=torch.float64)).diff() >= 0).all()


def test_positives_are_counted_without_gradient():
    """Two positives change places: only their leads over the negative matter."""
    z = torch.tensor([[1.0, 0, 0], [0.9, 0.4, 0], [0.8, 0.6, 0], [0, 0, 1]], dtype=torch.float64)
    grad = gradient(sup_ap, z, torch.tensor([0, 0, 0, 1]))
    assert grad.abs().max() < 1e-6  # no negative is near: nothing left to learn


@pytest.mark.parametrize(("weight", "parts"), [(0.0, (1, 0)), (0.3, (0.7, 0.3)), (1.0, (0, 1))])
def test_roadmap_weighs_its_two_terms(weight, parts):
    z, labels = random_batch(np.random.default_rng(14))
    s, (near, far) = cosines(z), ([], [])
    for i, positive, negative in others(labels):
        near += [max(0.0, 0.9 - s[i][p]) for p in positive]
        far += [max(0.0, s[i][n] - 0.6) for n in negative]
    calibration = mean(v for v in near if v > 0) + mean(v for v in far if v > 0)
    loss = build(Roadmap, weight=weight)
    assert [term.name for term in loss.terms] == ["sup_ap", "calibration"]
    expected = parts[0] * loop_sup_ap(z, labels) + parts[1] * calibration
    assert calibration > 0
    assert loss(z, labels).item() == pytest.approx(expected, abs=1e-6)
