"""The trunk as it is."""

import torch

from protocols.conformance import SPEC
from protocols.method import Features
from protocols.methods.untrained import Untrained
from tests.protocols.methods.loops import build


def test_untrained_returns_the_trunks_vector_untouched_and_has_nothing_to_train():
    built = build(Untrained).method
    vector = torch.rand(3, SPEC.channels)
    views = built(Features(vector[:, :, None, None], vector))
    assert views["embedding"] is vector
    assert list(built.parameters()) == []
    assert built.groups() == []
    assert built.trains is False
