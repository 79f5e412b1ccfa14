"""What every trunk keeps: shapes, frozen statistics, a start that repeats, its last stride."""

from dataclasses import replace

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from protocols.conformance import SPEC
from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError
from protocols.method import Wants
from protocols.network import Network
from tests.protocols.trunks.networks import SHAPES, pixels, seeded, settled

STRIDED = {"resnet50", "mobilenet_v2", "efficientnet_lite0", "tiny"}


PLAIN = [n for n in Registry().names("trunk") if ":" not in Registry().usage("trunk", n)]


def test_shape_table_covers_what_ships():
    assert {*SHAPES, "tiny"} == set(PLAIN)


@pytest.mark.parametrize("name", PLAIN)
def test_map_and_vector(name):
    trunk = settled(name)
    side, channels, map_side = SHAPES.get(name, (64, trunk.channels, 4))
    images = trunk.scale(pixels(side))
    with torch.no_grad():
        features, again = trunk(images), trunk(images)
    assert trunk.channels == channels
    assert features.map.shape == (1, channels, map_side, map_side)
    assert features.vector.shape == (1, channels)
    assert torch.equal(features.map, again.map)
    assert torch.equal(features.vector, again.vector)
    torch.testing.assert_close(features.vector, features.map.flatten(2).mean(2))
    assert features.map.isfinite().all()
    assert features.map.std() > 1e-3
    assert trunk.nonnegative
    assert features.map.min() >= 0
    assert not trunk.pretrained


@pytest.mark.parametrize("name", PLAIN)
def test_frozen_statistics_stay_and_everything_else_learns(name):
    trunk = settled(name)
    method = load("method", "triplet")(replace(SPEC, channels=trunk.channels))
    net = Network(trunk, method, "frozen_stats").train()
    norms = [m for m in trunk.modules() if isinstance(m, _BatchNorm)]
    means = [norm.running_mean.clone() for norm in norms]
    assert norms
    assert not any(norm.training for norm in norms)
    net(pixels(96, count=2))["embedding"].square().sum().backward()
    assert all(torch.equal(n.running_mean, m) for n, m in zip(norms, means, strict=True))
    learns = {n: p.grad is not None and bool(p.grad.any()) for n, p in trunk.named_parameters()}
    net.zero_grad()
    net.eval()
    assert all(learns.values()), [name for name, does in learns.items() if not does]


@pytest.mark.parametrize("name", ["bn_inception", "googlenet", "mobilenet_v2"])
def test_random_start_repeats_under_a_seed(name):
    states = []
    for seed in (3, 3, 4):
        with seeded(seed):
            states.append(load("trunk", name).build().state_dict())
    same = [all(torch.equal(states[0][key], s[key]) for key in s) for s in states]
    assert same == [True, True, False]


@pytest.mark.parametrize("name", sorted(STRIDED - {"tiny"}))
def test_last_stride_doubles_the_map_and_keeps_the_weights(name):
    with seeded():
        trunk = load("trunk", name).build().eval()
    kept = {key: value.clone() for key, value in trunk.state_dict().items()}
    trunk.honour(Wants(last_stride=1, nonnegative=True, map=True), "bdb")
    with torch.no_grad():
        assert trunk.map(torch.zeros(1, 3, 224, 224)).shape[2:] == (14, 14)
        trunk.honour(Wants(last_stride=2), "bdb")
        assert trunk.map(torch.zeros(1, 3, 224, 224)).shape[2:] == (7, 7)
    assert all(torch.equal(value, kept[key]) for key, value in trunk.state_dict().items())


@pytest.mark.parametrize("name", sorted(set(PLAIN) - STRIDED))
def test_last_stride_is_refused_by_name(name):
    trunk = settled(name)
    with pytest.raises(InvalidInputError, match=rf"'bdb'.*{type(trunk).__name__}.*stride to 1"):
        trunk.honour(Wants(last_stride=1), "bdb")
