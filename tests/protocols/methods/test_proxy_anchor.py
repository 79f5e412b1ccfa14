"""Proxy-Anchor."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.methods.proxy_anchor import ProxyAnchor
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cosines,
    log_sum_exp,
    mean,
    random_batch,
    set_weight,
)


def test_golden_value_with_identity_weights():
    spec = replace(SPEC, classes=2, embedding_size=2)
    (term,) = ProxyAnchor(spec).terms
    term.double()
    set_weight(term.loss, torch.eye(2, dtype=torch.float64))
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(18.69636117, rel=0, abs=5e-8)


def loop_proxy_anchor(proxies, z, labels, margin, alpha):
    s, y = cosines(z, proxies), labels.tolist()
    near, far = [], []
    for c in range(len(proxies)):
        mine = [-alpha * (s[i][c] - margin) for i in range(len(y)) if y[i] == c]
        rest = [alpha * (s[i][c] + margin) for i in range(len(y)) if y[i] != c]
        if mine:
            near.append(log_sum_exp([0.0, *mine]))
        far.append(log_sum_exp([0.0, *rest]))
    return mean(near) + mean(far)


def test_proxy_anchor_equals_loops():
    rng, loss = np.random.default_rng(5), build(ProxyAnchor, margin=0.2, alpha=20.0)
    proxies = loss.terms[0].loss.proxies.detach()
    for _ in range(40):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop_proxy_anchor(proxies, z, labels, 0.2, 20.0)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-8)
