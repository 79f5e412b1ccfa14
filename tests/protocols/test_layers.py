"""Layers of every trunk that ships, against the order in which images really meet them."""

import pytest
import torch
from torch import nn

from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError
from protocols.layers import BLOCKS, layers
from protocols.trunk import Trunk

EXPECTED = {
    "bn_inception": 12,
    "densenet121": 1 + 58,
    "densenet161": 1 + 78,
    "densenet169": 1 + 82,
    "densenet201": 1 + 98,
    "efficientnet_lite0": 1 + 16 + 1,
    "googlenet": 3 + 9,
    "inception_v3": 5 + 11,
    "mobilenet_v2": 19,
    "resnet50": 1 + 16,
    "tiny": 4,
}
SIDE = {"bn_inception": 64, "inception_v3": 75}


def in_order(trunk, side):
    """Return the parameters in the order in which a forward pass uses their modules."""
    used = []

    def note(module, _):
        used.extend(p for p in module.parameters(recurse=False) if not any(p is q for q in used))

    for module in trunk.modules():
        module.register_forward_pre_hook(note)
    with torch.no_grad():
        trunk.eval()(torch.zeros(1, 3, side, side))
    return used


@pytest.mark.parametrize("name", EXPECTED)
def test_every_shipped_trunk_has_its_layers_in_the_order_of_use(name):
    trunk = load("trunk", name).build()
    found = layers(trunk)
    assert len(found) == EXPECTED[name]
    every = [id(p) for layer in found for p in layer]
    assert sorted(every) == sorted(map(id, trunk.parameters())), "each parameter once"
    number = {id(p): depth for depth, layer in enumerate(found) for p in layer}
    depths = [number[id(p)] for p in in_order(trunk, SIDE.get(name, 32))]
    assert depths == sorted(depths), "an image meets them in another order"
    assert type(trunk).__name__ in BLOCKS


def test_no_shipped_trunk_is_left_out():
    named = {"frozen", "lora8", "prompt10", "timm", "torchvision"}  # each wraps one that is named
    assert set(Registry().names("trunk")) - named == set(EXPECTED)


def test_a_model_of_timm_is_cut_as_timm_cuts_it():
    timm = pytest.importorskip("timm")
    del timm
    trunk = (
        Registry()
        .module("trunk", "timm:vit_tiny_patch16_224")
        .build(argument="vit_tiny_patch16_224")
    )
    found = layers(trunk)
    names = {id(p): n for n, p in trunk.named_parameters()}
    assert len(found) == 13
    assert {names[id(p)] for p in found[0]} == {
        *("net.cls_token", "net.pos_embed"),
        *("net.patch_embed.proj.weight", "net.patch_embed.proj.bias"),
    }
    for depth in range(1, 13):
        kept = [names[id(p)] for p in found[depth]]
        assert all(n.startswith((f"net.blocks.{depth - 1}.", "net.norm.")) for n in kept)


def test_what_does_not_train_is_in_no_layer():
    trunk = load("trunk", "tiny").build()
    trunk.stages[1].requires_grad_(False)
    assert [len(layer) for layer in layers(trunk)] == [3, 3, 3]


class Own(Trunk):
    """A trunk of a plugin, whose order nobody said."""

    channels = 4

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)


class Tiny(Own):
    """It is not the one that ships."""


@pytest.mark.parametrize("kind", [Own, Tiny])
def test_an_unknown_order_is_refused_by_name(kind):
    with pytest.raises(InvalidInputError, match=rf"layers of trunk {kind.__name__} is not known"):
        layers(kind())
