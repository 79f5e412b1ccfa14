"""TCM: thresholds beside Multi-Similarity."""

import numpy as np
import pytest
import torch

from protocols.methods.ms import MultiSimilarity
from protocols.methods.tcm import ThresholdConsistent
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cosines,
    mean,
    pairs_of,
    random_batch,
)


def thresholds(m_plus, m_minus):
    """Return the term alone; m_minus may lie outside what is searched."""
    method = build(ThresholdConsistent).method
    method.settings.update(m_plus=m_plus, m_minus=m_minus)
    return method.thresholds


@pytest.mark.parametrize(
    ("m_plus", "m_minus", "expected"),
    [(0.9, 0.5, 1.01602540), (0.4, 0.9, 0.40000000), (0.9, -0.6, 1.37200847)],
)
def test_golden_values(m_plus, m_minus, expected):
    got = thresholds(m_plus, m_minus)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(expected, rel=0, abs=5e-9)


def loop(z, labels, m_plus, m_minus):
    s, (positive, negative) = cosines(z), pairs_of(labels)
    pull = [m_plus - s[i][j] for i, j in positive if s[i][j] <= m_plus]
    push = [s[i][j] - m_minus for i, j in negative if s[i][j] >= m_minus]
    return mean(pull) + mean(push)


def test_it_equals_loops_beside_multi_similarity():
    rng, base = np.random.default_rng(0), build(MultiSimilarity)
    for _ in range(60):
        m_plus, m_minus = float(rng.uniform(0.5, 1)), float(rng.uniform(0, 0.8))
        z, labels = random_batch(rng, least=2)
        built = build(ThresholdConsistent, m_plus=m_plus, m_minus=m_minus)
        expected = base(z, labels).item() + loop(z, labels, m_plus, m_minus)
        assert built(z, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_pairs_within_the_thresholds_cost_nothing():
    z = torch.eye(4, dtype=torch.float64)[[0, 0, 1, 1]]
    assert thresholds(0.9, 0.5)(z, FIXTURE_LABELS).item() == 0.0
