"""SoftTriple: centres, their regulariser, gamma."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.regularizers import SparseCentersRegularizer
from torch.nn.functional import normalize

from protocols.conformance import SPEC
from protocols.methods.softtriple import SoftTriple, Spread
from tests.protocols.methods.loops import (
    build,
    cross_entropy,
    dots,
    mean,
    random_batch,
    unit,
    weight_of,
)


def loop_softtriple(loss, z, labels, la, gamma, margin, centres, reg_weight, centre_lr):
    w = [unit(rows) for rows in weight_of(loss).detach().reshape(SPEC.classes, centres, -1)]
    rows = []
    for i, x in enumerate(unit(z)):
        row = []
        for c in range(SPEC.classes):
            s = dots([x], w[c])[0]
            share = [math.exp((v - max(s)) / gamma) for v in s]
            similarity = math.fsum(a * b for a, b in zip(share, s, strict=True)) / sum(share)
            row.append(la * (similarity - margin * (c == int(labels[i]))))
        rows.append(row)
    value = cross_entropy(rows, labels)
    spread = [
        math.sqrt(math.dist(w[c][t], w[c][u]) ** 2 + 1e-5)
        for c in range(SPEC.classes)
        for t in range(centres)
        for u in range(t)
    ]
    return value + reg_weight * mean(spread)


def test_softtriple_equals_loops():
    settings = {
        "la": 12.0,
        "gamma": 0.3,
        "margin": 0.2,
        "centres": 3,
        "reg_weight": 0.4,
        "centre_lr": 0.1,
    }
    loss, rng = build(SoftTriple, **settings), np.random.default_rng(5)
    for _ in range(30):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop_softtriple(loss, z, labels, **settings)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-7)


def test_softtriple_regulariser_is_twice_the_librarys():
    w = torch.from_numpy(np.random.default_rng(10).normal(size=(12, 5)))
    theirs = SparseCentersRegularizer(4, 3)(w).item()
    assert Spread(4)(w).item() == pytest.approx(2 * theirs, rel=1e-4)


def test_merged_centres_give_a_small_gradient():
    w = torch.ones(6, 5).requires_grad_()
    Spread(2)(w).backward()
    assert w.grad.abs().max() < 1e-3


def test_a_single_centre_has_no_regulariser_and_no_use_for_gamma():
    z, labels = random_batch(np.random.default_rng(11), SPEC.classes, SPEC.embedding_size)
    settings = [{}, {"reg_weight": 1.0}, {"gamma": 50.0}]
    values = [build(SoftTriple, centres=1, **s)(z, labels).item() for s in settings]
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


def test_gamma_is_soft_when_large():
    """Small gamma takes the nearest centre, large gamma the mean of all."""
    loss = build(SoftTriple, gamma=1e-5, reg_weight=0.0)
    soft = build(SoftTriple, gamma=100.0, reg_weight=0.0)
    z, labels = random_batch(np.random.default_rng(12), SPEC.classes, SPEC.embedding_size)
    w = normalize(weight_of(loss).detach()).reshape(SPEC.classes, 10, -1)
    s = torch.einsum("bd,ckd->bck", normalize(z), w)
    for got, logits in ((loss, s.amax(2)), (soft, s.mean(2))):
        logits[torch.arange(len(labels)), labels] -= 0.01
        expected = cross_entropy((20 * logits).tolist(), labels)
        assert got(z, labels).item() == pytest.approx(expected, rel=1e-2)
