"""Combination of global descriptors."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import normalize

from protocols.conformance import SPEC, as_features, toy_features
from protocols.discovery import load
from protocols.errors import InvalidInputError
from protocols.methods.cgd import COMBINATIONS, DESCRIBE, Combined, gem, split
from protocols.network import Network
from tests.protocols.methods.loops import (
    LINE,
    LINE_LABELS,
    count,
    paper_spec,
)


def test_the_hinge_is_a_mean_over_all_anchors():
    # Over violated anchors only it would be 0.1.
    method = Combined(SPEC, margin=0.1)
    assert method.rank(LINE, LINE_LABELS).item() == pytest.approx(0.025, abs=1e-6)


SQUARE = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def test_descriptors_of_four_numbers():
    assert DESCRIBE["S"](SQUARE).item() == 2.5
    assert DESCRIBE["M"](SQUARE).item() == 4.0
    assert DESCRIBE["G"](SQUARE).item() == pytest.approx(2.924018, abs=1e-6)
    assert gem(SQUARE, 1.0).item() == pytest.approx(2.5)
    assert gem(SQUARE.double(), 400.0).item() == pytest.approx(4.0, rel=0.01)


def test_generalised_mean_equals_a_loop():
    maps = torch.rand(3, 5, 4, 6, dtype=torch.float64)
    for b, c in itertools.product(range(3), range(5)):
        values = maps[b, c].flatten().tolist()
        slow = (math.fsum(v**3 for v in values) / len(values)) ** (1 / 3)
        assert gem(maps)[b, c].item() == pytest.approx(slow)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_slices_are_unit_vectors_in_the_order_of_the_name(name):
    method = Combined(SPEC, descriptors=name).eval()
    features = as_features(toy_features())
    embedding = method(features)["embedding"]
    parts = embedding.split(split(SPEC.embedding_size, len(name)), dim=1)
    assert len(parts) == len(name)
    for part, letter, layer in zip(parts, name, method.head, strict=True):
        torch.testing.assert_close(part.norm(dim=1), torch.full((32,), len(name) ** -0.5))
        alone = layer(DESCRIBE[letter](features.map))
        torch.testing.assert_close(normalize(part), normalize(alone))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(32))


def test_there_are_twelve_combinations_and_sizes_add_up():
    every = {"".join(p) for n in (1, 2, 3) for p in itertools.permutations("SMG", n)}
    assert set(COMBINATIONS) <= every
    assert len(COMBINATIONS) == 12
    assert split(128, 3) == [43, 43, 42]
    assert split(1536, 2) == [768, 768]


def test_the_classifier_sees_the_first_descriptor_only():
    # Equal means, other cubes.
    a = torch.tensor([1.0, 1.0, 3.0, 3.0]).view(1, 1, 2, 2).expand(2, 16, 2, 2)
    b = torch.tensor([0.0, 2.0, 2.0, 4.0]).view(1, 1, 2, 2).expand(2, 16, 2, 2)
    for name, same in (("SG", True), ("GS", False)):
        method = Combined(SPEC, descriptors=name).train()
        first = [method(as_features(x))["first"] for x in (a, b)]
        classify = method.terms[1].loss.eval()
        logits = [classify.logits(x) for x in first]
        assert torch.allclose(*logits) is same


def test_combination_has_the_papers_size_on_resnet(resnet):
    method = Combined(paper_spec(2048, 1536), descriptors="SG")
    network = Network(resnet, method, "frozen_stats").train()
    assert count(network) == 26_858_658
    deployed = sum(p.numel() for p in network.deployed(64))
    assert deployed == 26_858_658 - count(method.terms) == 23_508_032 + 2 * 2048 * 768
    norm = method.terms[1].loss.norm
    assert norm.training, "the classifier's BatchNorm is live"
    assert not any(m.training for m in network._trunk_norms())
    with torch.no_grad():
        shape = network.trunk.eval()(torch.zeros(1, 3, 224, 224)).map.shape
    assert shape == (1, 2048, 14, 14)


@pytest.mark.parametrize("trunk", ["bn_inception", "densenet121", "googlenet"])
def test_trunks_without_a_last_stride_are_refused_by_name(trunk):
    built = load("trunk", trunk).build(None)
    with pytest.raises(InvalidInputError, match=f"'cgd'.*{type(built).__name__}"):
        built.honour(load("method", "cgd").wants, "cgd")
