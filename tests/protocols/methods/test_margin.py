"""Margin loss with one boundary."""

import numpy as np
import pytest

from protocols.conformance import SPEC
from protocols.methods.margin import Margin
from tests.protocols.methods.loops import FIXTURE, FIXTURE_LABELS, build, loop_margin, random_batch


def test_golden_value():
    got = build(Margin, beta=1.1, margin=0.2)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.40215781, rel=0, abs=5e-8)


def test_margin_equals_loops():
    rng = np.random.default_rng(1)
    for _ in range(60):
        z, labels = random_batch(rng)
        margin, beta = rng.uniform(-0.2, 2.0, 2).tolist()
        got = build(Margin, margin=margin, beta=beta)(z, labels).item()
        assert got == pytest.approx(loop_margin(z, labels, margin, beta), rel=1e-6, abs=1e-9)


def test_boundary_has_its_searched_rate_and_no_weight_decay():
    (term,) = Margin(SPEC, beta_lr=0.03, beta=0.7).terms
    (beta,) = term.group().parameters
    assert (term.group().lr, term.group().decay) == (0.03, False)
    assert beta.detach() == pytest.approx(0.7)
    assert beta.shape == (1,)
