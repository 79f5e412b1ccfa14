"""Margin loss with a boundary for each class."""

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.methods.margin_class import MarginClass
from tests.protocols.methods.loops import FIXTURE, FIXTURE_LABELS, build, loop_margin, random_batch


def test_golden_value():
    got = build(MarginClass, beta=1.1, margin=0.2)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.40215781, rel=0, abs=5e-8)


def test_margin_class_uses_the_boundary_of_the_anchors_class():
    rng = np.random.default_rng(2)
    for _ in range(60):
        z, labels = random_batch(rng)
        beta = rng.uniform(0.2, 1.6, SPEC.classes).tolist()
        loss = build(MarginClass, margin=0.3)
        with torch.no_grad():
            loss.loss.beta.copy_(torch.tensor(beta))
        got = loss(z, labels).item()
        assert got == pytest.approx(loop_margin(z, labels, 0.3, beta), rel=1e-6, abs=1e-9)


def test_boundary_has_its_searched_rate_and_no_weight_decay():
    (term,) = MarginClass(SPEC, beta_lr=0.03, beta=0.7).terms
    (beta,) = term.group().parameters
    assert (term.group().lr, term.group().decay) == (0.03, False)
    assert beta.detach() == pytest.approx(0.7)
    assert beta.shape == (SPEC.classes,)
