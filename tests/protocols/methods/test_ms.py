"""Multi-similarity loss over all pairs."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.methods.ms import MultiSimilarity
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    gradient,
    loop_multi_similarity,
    random_batch,
)


def test_golden_value():
    got = build(MultiSimilarity, alpha=2.0, beta=50.0, base=0.5)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.68461492, rel=0, abs=1e-8)


def test_golden_value_through_the_term_in_float32():
    (term,) = build(MultiSimilarity, alpha=2.0, beta=50.0, base=0.5).terms
    got = term({"embedding": FIXTURE}, FIXTURE_LABELS)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(0.68461492, rel=1e-5)


@pytest.mark.parametrize(
    "settings", [(2.0, 50.0, 0.5), (0.5, 5.0, 0.0), (18.0, 75.0, 0.77)], ids=str
)
def test_multi_similarity_equals_loops_in_value_and_closed_form_gradient(settings):
    """dL/dS = -w+ on all positives and +w- on all negatives, taken back to the embeddings."""
    rng = np.random.default_rng(4)
    values = dict(zip(("alpha", "beta", "base"), settings, strict=True))
    for _ in range(70):
        built = build(MultiSimilarity, **values)
        z, labels = random_batch(rng, least=2)
        expected, slope = loop_multi_similarity(z, labels, *settings)
        assert built(z, labels).item() == pytest.approx(expected, rel=1e-8, abs=1e-12)
        leaf = z.clone().requires_grad_()
        unit = normalize(leaf)
        (unit @ unit.T * torch.from_numpy(slope)).sum().backward()
        torch.testing.assert_close(gradient(built, z, labels), leaf.grad, rtol=1e-6, atol=1e-10)
