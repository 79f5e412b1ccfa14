"""Sub-center ArcFace."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.methods.arcface import ArcFace
from protocols.methods.subcenter_arcface import SubCenterArcFace
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cosines,
    gradient,
    log_sum_exp,
    mean,
    random_batch,
    set_weight,
)


def test_golden_value_with_identity_weights():
    """Equal sub-centres leave plain ArcFace."""
    spec = replace(SPEC, classes=2, embedding_size=2)
    (term,) = SubCenterArcFace(spec).terms
    term.double()
    set_weight(term.loss, torch.eye(2, dtype=torch.float64)[:, None])
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(13.46549161, rel=0, abs=5e-8)


def loop_subcenter(weight, z, labels, margin, scale):
    m, values = math.radians(margin), []
    every = [cosines(z, centres) for centres in weight]  # (C, B, K)
    for i, y in enumerate(labels.tolist()):
        row = [max(every[c][i]) for c in range(len(every))]
        angle = math.acos(row[y])
        row[y] = math.cos(angle + m) if angle + m <= math.pi else row[y] - m * math.sin(m)
        values.append(log_sum_exp([scale * v for v in row]) - scale * row[y])
    return mean(values)


@pytest.mark.parametrize("centres", [2, 5])
def test_subcenter_arcface_equals_loops(centres):
    rng = np.random.default_rng(6)
    loss = build(SubCenterArcFace, centres=centres, margin=80.0, scale=30.0)
    weight = loss.terms[0].loss.weight.detach()
    assert weight.shape == (SPEC.classes, centres, SPEC.embedding_size)
    for _ in range(40):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop_subcenter(weight, z, labels, 80.0, 30.0)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-8)


def test_subcenter_arcface_has_arcfaces_space():
    space, plain = ({**method.space("emoji")} for method in (SubCenterArcFace, ArcFace))
    assert space.pop("centres").options == (2, 3, 5)
    del plain["compat"]  # the form of the paper's numbers, which this method is not among
    assert {k: (p.low, p.high, p.log, p.default) for k, p in space.items()} == {
        k: (p.low, p.high, p.log, p.default) for k, p in plain.items()
    }


def test_a_sample_on_a_sub_centre_gives_a_finite_gradient():
    loss = build(SubCenterArcFace, torch.float32)
    rows = torch.eye(SPEC.classes, SPEC.embedding_size)  # cosines of exactly 1 and -1
    with torch.no_grad():
        loss.terms[0].loss.weight[:, 1] = rows
    for z in (rows, -rows):
        grad = gradient(loss, z, torch.arange(SPEC.classes))
        assert grad.isfinite().all()
        assert grad.abs().max() < 1e4
