"""ProxyNCA."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library

from protocols.conformance import SPEC
from protocols.methods.proxynca import ProxyNCA, ProxyNCALoss
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cross_entropy,
    gradient,
    random_batch,
    set_weight,
    unit,
    weight_of,
)


def test_golden_value_with_identity_weights():
    spec = replace(SPEC, classes=2, embedding_size=2)
    (term,) = ProxyNCA(spec, scale=9.0).terms
    term.double()
    set_weight(term.loss, torch.eye(2, dtype=torch.float64))
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(1.64745813, rel=0, abs=5e-8)


def loop_proxynca(loss, z, labels, scale, proxy_lr):
    u, w = unit(z), unit(weight_of(loss).detach())
    return cross_entropy([[-scale * math.dist(a, b) ** 2 for b in w] for a in u], labels)


def test_proxynca_equals_loops():
    settings = {"scale": 3.7, "proxy_lr": 0.1}
    loss, rng = build(ProxyNCA, **settings), np.random.default_rng(5)
    for _ in range(30):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop_proxynca(loss, z, labels, **settings)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-7)


def test_proxynca_keeps_samples_far_from_their_proxy_in_float32():
    rows = torch.eye(2)
    z = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # each on the other's proxy
    labels = torch.arange(2)
    ours = ProxyNCALoss(2, 2, scale=400.0)
    theirs = library.ProxyNCALoss(2, 2, softmax_scale=400.0)
    set_weight(ours, rows)
    set_weight(theirs, rows)
    assert ours(z, labels).item() == pytest.approx(800)
    assert ours(torch.tensor([[0.6, 0.8]]), labels[:1]).item() == pytest.approx(160, rel=1e-4)
    grad = gradient(ours, torch.tensor([[0.6, 0.8], [1.0, 0.0]]), labels)
    assert grad[0].norm() > 100
    assert theirs(z, labels).isnan()
