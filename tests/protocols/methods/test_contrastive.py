"""Contrastive loss."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.methods.contrastive import Contrastive
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    loop_distances,
    random_batch,
)


def test_golden_value():
    got = build(Contrastive, pos_margin=0.0, neg_margin=1.0)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(1.68946869, rel=0, abs=1e-8)


def test_golden_value_through_the_term_in_float32():
    (term,) = build(Contrastive, pos_margin=0.0, neg_margin=1.0).terms
    got = term({"embedding": FIXTURE}, FIXTURE_LABELS)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(1.68946869, rel=1e-5)


def test_contrastive_equals_a_double_loop_on_200_batches():
    rng = np.random.default_rng(3)
    for _ in range(200):
        z, labels = random_batch(rng, least=2)
        pos_margin, neg_margin = rng.uniform(-0.2, 2.0, 2).tolist()
        d, y = loop_distances(normalize(z)), labels.tolist()
        pairs = [(a, b) for a, b in product(range(len(y)), repeat=2) if a != b]
        near = [max(0.0, d[a][b] - pos_margin) for a, b in pairs if y[a] == y[b]]
        far = [max(0.0, neg_margin - d[a][b]) for a, b in pairs if y[a] != y[b]]
        expected = 0.0
        for part in (near, far):
            violated = [v for v in part if v > 0]
            expected += sum(violated) / len(violated) if violated else 0.0
        built = build(Contrastive, pos_margin=pos_margin, neg_margin=neg_margin)
        assert built(z, labels).item() == pytest.approx(expected, rel=1e-6, abs=1e-12)
