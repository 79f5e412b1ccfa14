"""Batch-all triplet loss."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.methods.triplet import Triplet
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    gradient,
    loop_distances,
    random_batch,
)


def test_golden_value():
    got = build(Triplet, margin=0.2)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.65964579, rel=0, abs=1e-8)


def test_golden_value_through_the_term_in_float32():
    (term,) = build(Triplet, margin=0.2).terms
    got = term({"embedding": FIXTURE}, FIXTURE_LABELS)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(0.65964579, rel=1e-5)


def loop_batch_all(z, labels, margin):
    d, y = loop_distances(normalize(z)), labels.tolist()
    values = []
    for a, p, n in product(range(len(y)), repeat=3):
        if a != p and y[a] == y[p] and y[a] != y[n]:
            values.append(max(0.0, margin + d[a][p] - d[a][n]))
    violated = [v for v in values if v > 0]
    return sum(violated) / len(violated) if violated else 0.0


def test_triplet_equals_a_triple_loop_on_200_batches():
    rng, positive = np.random.default_rng(0), 0
    for _ in range(200):
        z, labels = random_batch(rng, least=2)
        margin = float(rng.uniform(-0.2, 2.0))
        expected = loop_batch_all(z, labels, margin)
        got = build(Triplet, margin=margin)(z, labels).item()
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-12)
        positive += expected > 0
    assert positive > 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_collapsed_batch(dtype):
    z = torch.tensor([[0.3, -1.2, 2.0]], dtype=dtype).expand(8, 3)
    labels, built = torch.arange(8) // 2, build(Triplet, margin=0.3)
    assert built(z, labels).item() == pytest.approx(0.3, abs=1e-6)
    assert gradient(built, z, labels).isfinite().all()
