"""CCL: the softmax over centres and the pull to one's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.methods.ccl import CenterContrastive
from protocols.methods.cosface import CosFace
from protocols.methods.nsoftmax import NormalizedSoftmax
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cross_entropy,
    logits_of,
    mean,
    random_batch,
    set_weight,
    weight_of,
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [((16, 0, 2), 2.96481606), ((16, 0.1, 2), 3.36424642), ((64, 0.2, 1), 9.80640646)],
    ids=str,
)
def test_golden_values(settings, expected):
    values = dict(zip(("scale", "margin", "pull"), settings, strict=True))
    (term,) = CenterContrastive(replace(SPEC, classes=2, embedding_size=2), **values).terms
    term.double()
    set_weight(term.loss, torch.eye(2, dtype=torch.float64))
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(expected, rel=0, abs=5e-9)


def loop(loss, z, labels, scale, margin, pull):
    s, y = logits_of(loss, z), labels.tolist()
    rows = [
        [scale * (v - (margin if c == y[i] else 0.0)) for c, v in enumerate(row)]
        for i, row in enumerate(s)
    ]
    return cross_entropy(rows, labels) + pull * mean(2 - 2 * s[i][c] for i, c in enumerate(y))


def test_it_equals_loops():
    rng = np.random.default_rng(1)
    for _ in range(60):
        settings = {
            "scale": float(2 ** rng.uniform(0, 7)),
            "margin": float(rng.uniform(0, 0.5)),
            "pull": float(rng.uniform(0, 8)),
        }
        built = build(CenterContrastive, **settings)
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop(built.loss, z, labels, **settings)
        assert built(z, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("other", "settings", "margin"),
    [
        (NormalizedSoftmax, {"temperature": 1 / 16}, 0.0),
        (CosFace, {"scale": 16.0, "margin": 0.2}, 0.2),
    ],
)
def test_without_a_pull_it_is_a_shipped_softmax(other, settings, margin):
    ours = build(CenterContrastive, scale=16.0, margin=margin, pull=0.0)
    theirs = build(other, **settings)
    set_weight(ours, weight_of(theirs).detach())
    rng = np.random.default_rng(2)
    for _ in range(20):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        assert ours(z, labels).item() == pytest.approx(theirs(z, labels).item(), rel=1e-9)
