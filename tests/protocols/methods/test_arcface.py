"""ArcFace: the falling form and the paper's."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library

from protocols.conformance import SPEC
from protocols.methods._angles import with_margin
from protocols.methods.arcface import ArcFace
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cross_entropy,
    gradient,
    logits_of,
    random_batch,
    set_weight,
    weight_of,
)


def test_golden_value_with_identity_weights():
    spec = replace(SPEC, classes=2, embedding_size=2)
    (term,) = ArcFace(spec, margin=28.6, scale=64.0).terms
    term.double()
    set_weight(term.loss, torch.eye(2, dtype=torch.float64))
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(13.46549161, rel=0, abs=5e-8)


def loop_arcface(loss, z, labels, margin, scale, weight_lr, compat=False):
    rows, m = logits_of(loss, z), math.radians(margin)
    for row, y in zip(rows, labels.tolist(), strict=True):
        angle = math.acos(row[y])
        falls = compat or angle + m <= math.pi
        row[y] = math.cos(angle + m) if falls else row[y] - m * math.sin(m)
    return cross_entropy([[scale * c for c in row] for row in rows], labels)


def test_arcface_equals_loops():
    settings = {"margin": 75.0, "scale": 20.0, "weight_lr": 0.1}
    loss, rng = build(ArcFace, **settings), np.random.default_rng(5)
    for _ in range(30):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop_arcface(loss, z, labels, **settings)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("compat", [False, True], ids=["exact", "compat"])
def test_arcface_passes_180_degrees_in_that_test(compat):
    """The rule beyond pi - margin is met, not only the rule before it."""
    loss, rng = build(ArcFace, margin=75.0, compat=compat), np.random.default_rng(5)
    z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
    z[0] = -weight_of(loss)[labels[0]].detach()
    expected = loop_arcface(loss, z, labels, 75.0, 64.0, 0.1, compat)
    assert loss(z, labels).item() == pytest.approx(expected, rel=1e-7)


def test_the_papers_arcface_rises_again_beyond_180_degrees():
    cosine = torch.cos(torch.tensor([100.0, 120.0, 150.0, 170.0]).deg2rad()).double()
    margin = math.radians(60.0)
    assert with_margin(cosine, margin).diff().lt(0).all(), "farther is always worse"
    plain = with_margin(cosine, margin, plain=True)
    angles = torch.tensor([160.0, 180.0, 210.0, 230.0]).deg2rad().double()
    torch.testing.assert_close(plain, angles.cos(), atol=1e-6, rtol=0)
    assert plain[3] > plain[2] > plain[1]


def test_arcface_equals_the_library_away_from_its_class_vectors():
    rng, ours = np.random.default_rng(16), build(ArcFace, margin=60.0)
    theirs = library.ArcFaceLoss(SPEC.classes, SPEC.embedding_size, margin=60.0).double()
    set_weight(theirs, weight_of(ours))
    z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
    assert ours(z, labels).item() == pytest.approx(theirs(z, labels).item(), rel=1e-9)
    torch.testing.assert_close(gradient(ours, z, labels), gradient(theirs, z, labels))
