"""Proxy-AN."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.methods.proxy_an import ProxyAN
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

TWO = torch.eye(2, dtype=torch.float64)
THREE = torch.cat([TWO, torch.tensor([[-1.0, 0.0]], dtype=torch.float64)])


def on_proxies(method, rows, **settings):
    (term,) = method(replace(SPEC, classes=len(rows), embedding_size=2), **settings).terms
    term.double()
    set_weight(term.loss, rows)
    return term


@pytest.mark.parametrize(
    ("alpha", "proxies", "expected"),
    [(32.0, TWO, 10.96815794), (32.0, THREE, 19.93650045), (8.0, THREE, 5.45499084)],
)
def test_golden_values(alpha, proxies, expected):
    loss = on_proxies(ProxyAN, proxies, alpha=alpha, margin=0.1).loss
    assert loss(FIXTURE, FIXTURE_LABELS).item() == pytest.approx(expected, rel=0, abs=5e-9)


def loop(proxies, z, labels, margin, alpha):
    """Return the loss' two lines."""
    s, y = cosines(z, proxies), labels.tolist()
    pull = [
        log_sum_exp([0.0, *(-alpha * (s[i][c] - margin) for i in range(len(y)) if y[i] == c)])
        for c in sorted(set(y))
    ]
    push = [
        log_sum_exp([0.0, *(alpha * (v + margin) for c, v in enumerate(row) if c != y[i])])
        for i, row in enumerate(s)
    ]
    return mean(pull), mean(push)


def test_it_equals_loops():
    rng = np.random.default_rng(5)
    for _ in range(60):
        alpha, margin = float(10 ** rng.uniform(0, 2)), float(rng.uniform(0, 1))
        built = build(ProxyAN, margin=margin, alpha=alpha)
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = sum(loop(built.loss.proxies.detach(), z, labels, margin, alpha))
        assert built(z, labels).item() == pytest.approx(expected, rel=1e-9)


def test_its_pull_is_proxy_anchors():
    """Proxy-Anchor less its own push is this loss less the push of the loops."""
    pull, push = loop(TWO, FIXTURE, FIXTURE_LABELS, 0.1, 32.0)
    s = np.array(cosines(FIXTURE, TWO))
    foreign = [s[2:, 0], s[:2, 1]]  # the samples of other classes, proxy by proxy
    theirs = mean(log_sum_exp([0.0, *(32.0 * (v + 0.1))]) for v in foreign)
    whole = on_proxies(ProxyAnchor, TWO).loss(FIXTURE, FIXTURE_LABELS).item()
    assert pull == pytest.approx(1.61997805, rel=0, abs=5e-9)
    assert whole - theirs == pytest.approx(pull, rel=1e-9)
    ours = on_proxies(ProxyAN, TWO).loss(FIXTURE, FIXTURE_LABELS).item()
    assert ours - push == pytest.approx(pull, rel=1e-9)
