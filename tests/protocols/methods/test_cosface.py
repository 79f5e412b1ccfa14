"""CosFace."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.methods.cosface import CosFace
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cross_entropy,
    logits_of,
    random_batch,
    set_weight,
)


def test_golden_value_with_identity_weights():
    spec = replace(SPEC, classes=2, embedding_size=2)
    (term,) = CosFace(spec, margin=0.35, scale=64.0).terms
    term.double()
    set_weight(term.loss, torch.eye(2, dtype=torch.float64))
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(11.45640646, rel=0, abs=5e-8)


def loop_cosface(loss, z, labels, margin, scale, weight_lr):
    rows = logits_of(loss, z)
    for row, y in zip(rows, labels.tolist(), strict=True):
        row[y] -= margin
    return cross_entropy([[scale * c for c in row] for row in rows], labels)


def test_cosface_equals_loops():
    settings = {"margin": 0.4, "scale": 20.0, "weight_lr": 0.1}
    loss, rng = build(CosFace, **settings), np.random.default_rng(5)
    for _ in range(30):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop_cosface(loss, z, labels, **settings)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-7)
