"""Batch feature erasing: blocks, branches, sizes and starting values."""

import itertools

import numpy as np
import pytest
import torch

from protocols.discovery import load
from protocols.errors import InvalidInputError
from protocols.method import Features
from protocols.methods.bfe import BatchFeatureErasing, Branches, erase
from protocols.network import Network
from protocols.toy_task import SPEC, as_features, build, toy_batch, toy_features
from tests.protocols.methods.loops import (
    count,
    paper_spec,
    seeded,
)


def test_one_block_is_erased_and_survivors_stay_as_they_are():
    seen = set()
    for seed in range(200):
        seeded(seed)
        erased = erase(torch.ones(2, 3, 4, 4), 0.5, 0.5)
        assert (erased.sum(dim=(2, 3)) == 12).all()
        assert set(erased.unique().tolist()) == {0.0, 1.0}
        assert (erased == erased[0, 0]).all(), "the same block in every image and channel"
        rows, columns = np.nonzero(erased[0, 0].numpy() == 0)
        assert (np.ptp(rows), np.ptp(columns)) == (1, 1)
        seen.add((rows.min(), columns.min()))
    assert seen == set(itertools.product(range(3), range(3)))


@pytest.mark.parametrize(
    ("side", "share", "erased"),
    [(4, 0.5, 2), (5, 0.5, 2), (7, 0.5, 4), (14, 0.5, 7), (24, 0.33, 8), (8, 1.0, 8)],
)
def test_sides_round_half_to_even(side, share, erased):
    out = erase(torch.ones(1, 1, side, side), share, share)[0, 0]
    assert int((out == 0).sum()) == erased**2
    tall = erase(torch.ones(1, 1, side, 3), share, 1.0)[0, 0]
    assert int((tall == 0).all(1).sum()) == erased


def test_the_maximum_of_a_ramp_survives_in_eight_places_of_nine():
    ramp = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    found = {}
    for seed in range(200):
        seeded(seed)
        erased = erase(ramp, 0.5, 0.5)
        place = tuple((erased == 0).nonzero()[0, 2:].tolist())
        found[place] = erased.amax().item()
    assert sorted(found.values()) == [14.0] + [16.0] * 8
    assert found[2, 2] == 14.0
    assert sum(found.values()) / 9 == pytest.approx(15.7778, abs=1e-4)


def test_the_erased_rectangle_equals_a_loop():
    rng = np.random.default_rng(1)
    for seed in range(50):
        rows, columns = (int(n) for n in rng.integers(2, 9, 2))
        height, width = rng.uniform(0.2, 1.0, 2)
        block = torch.from_numpy(rng.normal(size=(2, 3, rows, columns)))
        seeded(seed)
        erased = erase(block, height, width)
        high, wide = round(height * rows), round(width * columns)
        options = []
        for top, left in itertools.product(range(rows - high + 1), range(columns - wide + 1)):
            kept = block.clone()
            for i, j in itertools.product(range(high), range(wide)):
                kept[:, :, top + i, left + j] = 0
            options.append(kept)
        assert any(torch.equal(erased, option) for option in options)


def test_erasing_has_the_papers_size_on_resnet(resnet):
    method = BatchFeatureErasing(paper_spec(2048, 1536))
    network = Network(resnet, method, "live")
    terms = count(method.terms)
    assert count(network) - terms == 31_120_960
    assert sum(p.numel() for p in network.deployed(64)) == 31_120_960
    branches = method.head
    assert count(branches.reduce) == 1_050_112
    assert count(branches.deepen) == 4_462_592
    assert count(branches.embed) == 2_100_224


def test_erasing_is_for_training_only_and_embeds_one_image():
    method = BatchFeatureErasing(paper_spec(64, 1536)).eval()
    features = as_features(torch.rand(3, 64, 6, 6))
    views = method(features)
    assert set(views) == {"embedding"}
    assert views["embedding"].shape == (3, 1536)
    assert not method.normalize_embeddings
    lengths = views["embedding"].norm(dim=1)
    assert (lengths - 1).abs().min() > 0.1, "raw, not of length 1"
    again = method(Features(features.map[:1], features.vector[:1]))["embedding"]
    torch.testing.assert_close(again, views["embedding"][:1])
    assert torch.equal(method(features)["embedding"], views["embedding"]), "no block in eval"


def test_the_global_branch_does_not_see_the_block():
    method = BatchFeatureErasing(SPEC).train()
    outs = []
    for seed in range(6):
        seeded(seed)
        outs.append(method(as_features(toy_features())))
    assert all(torch.equal(out["global"], outs[0]["global"]) for out in outs)
    assert any(not torch.equal(out["part"], outs[0]["part"]) for out in outs)
    whole = torch.cat([outs[0]["global"], outs[0]["part"]], dim=1)
    assert torch.equal(outs[0]["embedding"], whole)


def test_erasing_sums_exactly_four_terms():
    method = build(BatchFeatureErasing)
    values = method.losses(method(as_features(toy_features())), toy_batch())
    assert set(values) == {"global/triplet", "global/class", "part/triplet", "part/class"}
    assert {term.weight for term in method.terms} == {1.0}


@pytest.mark.parametrize(("size", "parts"), [(1536, (512, 1024)), (128, (43, 85)), (32, (11, 21))])
def test_a_third_of_the_embedding_is_global(size, parts):
    views = BatchFeatureErasing(paper_spec(16, size)).train()(as_features(torch.rand(4, 16, 4, 4)))
    assert (views["global"].shape[1], views["part"].shape[1]) == parts


def test_branches_start_as_published():
    branches = Branches(2048, {"global": 512, "part": 1024})
    assert branches.reduce[0].weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.01)
    assert branches.embed[0].weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.01)
    assert branches.embed[1].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not branches.embed[0].bias.any()


def test_the_bottleneck_starts_as_torch_leaves_it():
    """Convolutions uniform within 1 / sqrt(fan in), BatchNorm scales exactly 1, as released."""
    bottleneck = Branches(2048, {"global": 512, "part": 1024}).deepen
    for layer, fan_in in (("conv1", 2048), ("conv2", 512 * 9), ("conv3", 512)):
        weight = getattr(bottleneck, layer).weight
        bound = fan_in**-0.5
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    for norm in (bottleneck.bn1, bottleneck.bn2, bottleneck.bn3):
        assert (norm.weight == 1).all()


@pytest.mark.parametrize("trunk", ["bn_inception", "densenet121", "googlenet"])
def test_trunks_without_a_last_stride_are_refused_by_name(trunk):
    built = load("trunk", trunk).build(None)
    with pytest.raises(InvalidInputError, match=f"'bfe'.*{type(built).__name__}"):
        built.honour(load("method", "bfe").wants, "bfe")
