"""Normalized softmax."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.methods.nsoftmax import NormalizedSoftmax
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
    (term,) = NormalizedSoftmax(spec, temperature=0.05).terms
    term.double()
    set_weight(term.loss, torch.eye(2, dtype=torch.float64))
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(1.83029242, rel=0, abs=5e-8)


def loop_nsoftmax(loss, z, labels, temperature, weight_lr):
    return cross_entropy([[c / temperature for c in row] for row in logits_of(loss, z)], labels)


def test_nsoftmax_equals_loops():
    settings = {"temperature": 0.09, "weight_lr": 0.1}
    loss, rng = build(NormalizedSoftmax, **settings), np.random.default_rng(5)
    for _ in range(30):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop_nsoftmax(loss, z, labels, **settings)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-7)
