"""AntiCo: the coding rate, and what it adds to Proxy-Anchor."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.conformance import SPEC
from protocols.methods.antico import AntiCollapse, coding_rate
from protocols.methods.proxy_anchor import ProxyAnchor
from tests.protocols.methods.loops import FIXTURE, build, dots, random_batch, set_weight

ROOT = math.sqrt(0.75)
CASES = {  # rows, R with the released factor m / (D eps), R with the paper's D / (m eps^2)
    "three": ([[1.0, 0.0], [0.0, 1.0], [0.5, ROOT]], 1.66610226, 1.57255484),
    "apart": ([[1.0, 0.0], [0.0, 1.0]], 1.09861229, 1.60943791),
    "equal": ([[1.0, 0.0], [1.0, 0.0]], 0.80471896, 1.09861229),
}


@pytest.mark.parametrize(("rows", "released", "written"), CASES.values(), ids=CASES)
def test_golden_values_of_the_coding_rate(rows, released, written):
    p, eps = torch.tensor(rows, dtype=torch.float64), 0.5
    count, size = p.shape
    for factor, expected in ((count / (size * eps), released), (size / (count * eps**2), written)):
        got = coding_rate(p, torch.tensor(factor, dtype=torch.float64)).item()
        assert got == pytest.approx(expected, rel=0, abs=5e-9)


@pytest.mark.parametrize(("rows", "released", "written"), CASES.values(), ids=CASES)
def test_the_term_has_the_released_factor_and_each_class_once(rows, released, written):
    spec = replace(SPEC, classes=len(rows) + 1, embedding_size=2)
    method = AntiCollapse(spec).double()
    set_weight(method.terms[0].loss, torch.tensor([*rows, [-1.0, 0.0]], dtype=torch.float64))
    labels = torch.arange(len(rows)).repeat(3)  # the last class is not in the batch
    got = method.collapse(torch.ones(len(labels), 2), labels).item()
    assert got == pytest.approx(math.exp(-released), rel=1e-8)


def log_det(matrix):
    """Return ln det by elimination; diagonal entries of these matrices never vanish."""
    a, total = [row[:] for row in matrix], 0.0
    for p in range(len(a)):
        total += math.log(a[p][p])
        for r in range(p + 1, len(a)):
            share = a[r][p] / a[p][p]
            a[r] = [x - share * y for x, y in zip(a[r], a[p], strict=True)]
    return total


def test_it_equals_loops():
    rng = np.random.default_rng(0)
    plain = build(ProxyAnchor, alpha=64.0, margin=0.1)
    for _ in range(60):
        weight, eps = float(10 ** rng.uniform(0, 4)), float(rng.uniform(0.1, 1))
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        built = build(AntiCollapse, weight=weight, epsilon=eps)
        p = normalize(built.terms[0].loss.proxies.detach())[labels.unique()].tolist()
        factor = len(p) / (SPEC.embedding_size * eps)
        inner = dots(p, p)
        matrix = [[(i == j) + factor * v for j, v in enumerate(row)] for i, row in enumerate(inner)]
        expected = plain(z, labels).item() + weight * math.exp(-0.5 * log_det(matrix))
        assert built(z, labels).item() == pytest.approx(expected, rel=1e-9)


def test_the_rate_grows_when_proxies_spread():
    rates = []
    for degrees in (0, 5, 20, 60, 90):
        angles = torch.tensor([0.0, degrees], dtype=torch.float64).deg2rad()
        rows = torch.stack([angles.cos(), angles.sin()], 1)
        rates.append(coding_rate(rows, torch.tensor(2.0)).item())
    assert rates == sorted(rates)
    assert len(set(rates)) == 5


def test_a_step_down_the_term_spreads_the_proxies_present_and_leaves_the_rest():
    method = AntiCollapse(SPEC).double()
    proxies = method.terms[0].loss.proxies
    with torch.no_grad():
        proxies.copy_(torch.ones_like(proxies) + 0.1 * torch.randn_like(proxies))
    labels = torch.tensor([0, 0, 1, 2])
    before = coding_rate(normalize(proxies.detach()[:3]), torch.tensor(1.0))
    method.collapse(torch.ones(4, SPEC.embedding_size), labels).backward()
    assert proxies.grad[3:].count_nonzero() == 0
    after = (proxies - 0.1 * proxies.grad).detach()
    assert coding_rate(normalize(after[:3]), torch.tensor(1.0)) > before


def test_the_proxies_are_proxy_anchors_and_have_one_rate():
    built = build(AntiCollapse, proxy_lr=0.03)
    anchor, collapse = built.terms
    assert anchor.group().lr == 0.03
    assert collapse.group() is None
    assert (collapse.name, collapse.weight) == ("collapse", 286.0)
    labels = torch.tensor([0, 0, 1, 1])
    z = FIXTURE @ torch.ones(2, SPEC.embedding_size, dtype=torch.float64)
    built(z, labels).backward()
    assert anchor.loss.proxies.grad.abs().sum() > 0
