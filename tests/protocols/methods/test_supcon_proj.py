"""SupCon behind its projector."""

import numpy as np
import pytest
import torch
from torch.nn.functional import relu

from protocols.methods.supcon import SupCon
from protocols.methods.supcon_proj import SupConProjected
from protocols.toy_task import SPEC, as_features, toy_batch, toy_features
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    count,
    random_batch,
)
from tests.protocols.methods.test_supcon import loop_supcon


def test_golden_value():
    (term,) = build(SupConProjected, temperature=0.5).terms
    assert term.on == ("projected",)
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.98983557, rel=0, abs=5e-8)


@pytest.mark.parametrize("width", [1, 4])
def test_it_is_supcon_of_two_layers_by_hand(width):
    built = build(SupConProjected, width=width, temperature=0.2).method.train()
    first, _, second = built.projector
    assert first.weight.shape == (width * SPEC.embedding_size, SPEC.embedding_size)
    assert second.weight.shape == (SPEC.embedding_size, width * SPEC.embedding_size)
    features = as_features(toy_features().double())
    views = built(features)
    hidden = relu(views["embedding"] @ first.weight.T + first.bias)
    projected = hidden @ second.weight.T + second.bias
    torch.testing.assert_close(views["projected"], projected)
    got = built.losses(views, toy_batch())["loss"].item()
    expected = loop_supcon(projected.detach(), toy_batch().labels, 0.2)
    assert got == pytest.approx(expected, rel=1e-5)  # terms are computed in float32


def test_the_term_equals_loops():
    rng, built = np.random.default_rng(0), build(SupConProjected, temperature=0.1)
    for _ in range(30):
        z, labels = random_batch(rng)
        expected = loop_supcon(z, labels, 0.1)
        assert built(z, labels).item() == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_retrieval_drops_the_projector_and_both_start_alike():
    plain, ours = build(SupCon).method, build(SupConProjected).method
    features = as_features(toy_features().double())
    assert torch.equal(plain(features)["embedding"], ours(features)["embedding"])
    assert set(ours.train()(features)) == {"embedding", "projected"}
    assert set(ours.eval()(features)) == {"embedding"}
    assert [group.name for group in ours.groups()] == ["head", "projector"]
    assert count(ours) == count(plain) + count(ours.projector)
