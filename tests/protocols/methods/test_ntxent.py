"""NT-Xent: the exact form and the paper's."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library

from protocols import paper
from protocols.methods.ntxent import NTXent
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    dots,
    gradient,
    log_sum_exp,
    mean,
    pairs_of,
    random_batch,
    unit,
)


def test_golden_value():
    got = build(NTXent, temperature=0.5)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.98983557, rel=0, abs=5e-8)


def loop_ntxent(z, labels, temperature, compat=False):
    s = dots(unit(z), unit(z))
    positive, negative = pairs_of(labels)
    if not negative:
        return 0.0
    values = []
    for i, p in positive:
        others = [s[i][n] / temperature for a, n in negative if a == i]
        lost = log_sum_exp([s[i][p] / temperature, *others]) - s[i][p] / temperature
        values.append(-math.log(math.exp(-lost) + 1e-20) if compat else lost)
    return mean(values)


@pytest.mark.parametrize("compat", [False, True], ids=["exact", "compat"])
def test_ntxent_equals_loops(compat):
    rng = np.random.default_rng(0)
    for _ in range(100):
        z, labels = random_batch(rng)
        temperature = float(10 ** rng.uniform(-4, 1))
        got = build(NTXent, temperature=temperature, compat=compat)(z, labels).item()
        expected = loop_ntxent(z, labels, temperature, compat)
        assert got == pytest.approx(expected, rel=1e-7, abs=1e-9)


def sharp_batch():
    """Return hard positives: each nearer to a stranger than to its twin."""
    degrees = torch.tensor([0.0, 40.0, 10.0, 60.0], dtype=torch.float64).deg2rad()
    return torch.stack([degrees.cos(), degrees.sin()], 1), FIXTURE_LABELS


@pytest.mark.parametrize("temperature", [1e-5, 1e-3, 0.1])
def test_ntxent_keeps_the_gradient_of_hard_pairs_in_float32(temperature):
    z, labels = sharp_batch()
    exact = gradient(build(NTXent, temperature=temperature), z, labels)
    single = build(NTXent, torch.float32, temperature=temperature)
    got = gradient(single, z.float(), labels).double()
    assert (got - exact).norm() < 1e-3 * exact.norm()
    if temperature == 1e-3:
        flat = gradient(library.NTXentLoss(temperature=temperature), z.float(), labels)
        assert flat.norm() < 0.5 * exact.norm()


def test_the_papers_ntxent_has_no_gradient_for_hard_pairs_at_its_own_temperature():
    z, labels = sharp_batch()
    settings = paper.best("ntxent", "sop")
    assert settings["compat"] is True
    assert settings["temperature"] == pytest.approx(2.4e-4, rel=0.01)
    old = gradient(build(NTXent, **settings), z, labels)
    exact = gradient(build(NTXent, temperature=settings["temperature"]), z, labels)
    assert old.norm() < 1e-3 * exact.norm()
    assert exact.norm() > 100
