"""Stages of trunks: the maps that enter the parts that halve, and refusals."""

import importlib.util

import pytest
import torch

from protocols.discovery import load
from protocols.errors import InvalidInputError, PluginError
from protocols.method import Wants
from protocols.stages import SHIPPED
from protocols.trunk import Trunk
from tests.protocols.trunks.networks import pixels, seeded, settled

# Channels of all stages, at 64 px (96 for inception_v3), and the sides of their maps.
STAGES = {
    "tiny": ((32, 32, 32, 32), (32, 16, 8, 4)),
    "resnet50": ((256, 512, 1024, 2048), (16, 8, 4, 2)),
    "bn_inception": ((64, 320, 608, 1024), (16, 8, 4, 2)),
    "mobilenet_v2": ((24, 32, 96, 1280), (16, 8, 4, 2)),
    "efficientnet_lite0": ((24, 40, 112, 1280), (16, 8, 4, 2)),
    "googlenet": ((192, 480, 832, 1024), (16, 8, 4, 2)),
    "densenet121": ((256, 512, 1024, 1024), (16, 8, 4, 2)),
    "inception_v3": ((288, 768, 2048), (9, 4, 1)),
}


def asked(trunk, count):
    """Return the trunk's features before and after it was asked for stages; it is put back."""
    images = trunk.scale(pixels(96 if len(trunk._begins()) == 2 else 64))
    with torch.no_grad():
        plain = trunk(images)
        trunk.honour(Wants(stages=count), "some_method")
        found = trunk(images)
    trunk.stage_count = 0
    return plain, found


def test_all_that_ship_are_covered():
    dense = {name for name in SHIPPED if name.startswith("densenet")}
    assert set(STAGES) == set(SHIPPED) - dense | {"densenet121"}


@pytest.mark.parametrize("name", STAGES)
def test_stages_halve_and_end_in_the_map(name):
    channels, sides = STAGES[name]
    trunk = settled(name)
    plain, found = asked(trunk, len(channels))
    assert plain.stages == ()
    assert tuple(s.shape[1] for s in found.stages) == channels
    assert tuple(s.shape[2] for s in found.stages) == sides
    assert torch.equal(found.map, plain.map)
    assert torch.equal(found.vector, plain.vector)
    assert found.stages[-1] is found.map
    _, fewer = asked(trunk, 2)
    assert torch.equal(fewer.stages[0], found.stages[-2])
    assert len(fewer.stages) == 2
    assert not any(m._forward_pre_hooks for m in trunk.modules())


def test_stages_of_resnet50_are_the_outputs_of_its_layers():
    trunk = settled("resnet50")
    images = trunk.scale(pixels(64))
    _, found = asked(trunk, 4)
    x, wanted = images, []
    with torch.no_grad():
        for name, part in trunk.net.named_children():
            x = part(x)
            wanted += [x] if name.startswith("layer") else []
    assert all(map(torch.equal, found.stages, wanted))


def test_a_gradient_reaches_what_made_a_stage_and_nothing_behind_it():
    with seeded():
        trunk = load("trunk", "tiny").build()
    trunk.honour(Wants(stages=3), "some_method")
    trunk(trunk.scale(pixels(64, count=2))).stages[0].square().sum().backward()
    grads = [any(p.grad is not None for p in stage.parameters()) for stage in trunk.stages]
    assert grads == [True, True, False, False]


@pytest.mark.parametrize(
    ("trunk", "count", "words"),
    [
        ("tiny", 5, "method 'm' reads stages: trunk Tiny gives 4 stages, asked for 5"),
        ("torchvision:alexnet", 1, "trunk torchvision:alexnet gives no stages, asked for 1"),
        ("frozen:tiny", 9, "trunk Tiny gives 4 stages, asked for 9"),
    ],
)
def test_what_a_trunk_does_not_have_is_refused_by_name(trunk, count, words):
    with seeded(), pytest.raises(InvalidInputError, match=words) as caught:
        load("trunk", trunk).build().honour(Wants(stages=count), "m")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [-1, 1.5, True])
def test_only_counts_can_be_wanted(count):
    with pytest.raises(PluginError, match="expected a whole number from 0 on"):
        Wants(stages=count)


def test_a_plugin_says_where_its_stages_begin():
    class Own(Trunk):
        begins = ("second",)
        channels = 3

        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.AvgPool2d(2), torch.nn.AvgPool2d(2)

        def map(self, images):
            return self.second(self.first(images))

    _, found = asked(Own(), 2)
    assert [tuple(s.shape[1:]) for s in found.stages] == [(3, 32, 32), (3, 16, 16)]


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm")
@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet18", [(128, 8), (256, 4), (512, 2)]),
        ("vit_tiny_patch16_224", [(192, 4)] * 3),
        ("convnext_atto", [(80, 8), (160, 4), (320, 2)]),
    ],
)
def test_models_of_timm_give_the_maps_that_timm_names(name, shapes):
    with seeded():
        trunk = load("trunk", f"timm:{name}").build().eval()
    plain, found = asked(trunk, 3)
    assert [(s.shape[1], s.shape[2]) for s in found.stages] == shapes
    assert torch.equal(found.map, plain.map)
    assert torch.equal(found.vector, plain.vector)
    assert found.stages[-1] is found.map
    with pytest.raises(InvalidInputError, match=f"timm:{name} gives .* at most, asked for 99"):
        trunk.honour(Wants(stages=99), "m")
