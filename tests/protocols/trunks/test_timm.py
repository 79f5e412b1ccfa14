"""Models of timm as trunks."""

import importlib
import importlib.util
import sys

import pytest
import torch

from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError, UnknownNameError
from protocols.method import Wants
from protocols.trunk import InputScale
from tests.protocols.trunks.networks import pixels, saved, seeded


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm", reason="needs timm")


def of_timm(name, file=None):
    with seeded():
        return load("trunk", f"timm:{name}").build(file).eval()


@pytest.mark.parametrize(
    ("name", "side", "channels", "map_side", "nonnegative"),
    [
        ("resnet18", 96, 512, 3, True),
        ("vit_tiny_patch16_224", 96, 192, 6, False),
        ("convnext_atto", 96, 320, 3, False),
    ],
)
def test_timm_map_and_vector(timm, name, side, channels, map_side, nonnegative):
    trunk = of_timm(name)
    images = trunk.scale(pixels(side, count=2))
    with torch.no_grad():
        features, again = trunk(images), trunk(images)
        theirs = trunk.net(images)
    assert trunk.channels == channels
    assert features.map.shape == (2, channels, map_side, map_side)
    assert torch.equal(features.vector, theirs)  # what timm calls the model's descriptor
    assert torch.equal(features.map, again.map)
    assert torch.equal(trunk.map(images), features.map)
    assert trunk.nonnegative == nonnegative
    assert (features.map.min() >= 0) == nonnegative


def test_timm_maps_with_channels_last_are_turned(timm):
    swin = importlib.import_module("timm.models.swin_transformer").SwinTransformer
    with seeded():
        net = swin(img_size=32, embed_dim=8, depths=(1, 1), num_heads=(1, 1), num_classes=0)
    trunk = load("trunk", "timm:resnet18").Timm("swin", net).eval()
    with torch.no_grad():
        features = trunk(torch.rand(2, 3, 32, 32))
    assert features.map.shape == (2, 16, 4, 4)
    torch.testing.assert_close(features.vector, features.map.mean(dim=(2, 3)))
    with pytest.raises(InvalidInputError, match="timm:swin cannot take 64 x 64 px"):
        trunk(torch.rand(1, 3, 64, 64))


def test_timm_patches_keep_their_places(timm):
    """A change in one corner of the image moves that corner of the map most."""
    trunk = of_timm("vit_tiny_patch16_224")
    images = torch.zeros(2, 3, 96, 64)
    images[1, :, 80:, :16] = 3.0
    with torch.no_grad():
        one, two = trunk.map(images)
    assert one.shape == (192, 6, 4)
    moved = (one - two).square().sum(dim=0)
    assert moved.argmax() == 5 * 4 + 0


def test_timm_scale_follows_the_models_own_configuration(timm):
    half = (0.5, 0.5, 0.5)
    assert of_timm("vit_tiny_patch16_224").scale == InputScale(mean=half, std=half)
    assert of_timm("resnet18.tv_in1k").scale == InputScale()


def test_timm_weights_from_a_file_classifier_dropped(timm, tmp_path):
    with seeded(9):
        state = timm.create_model("resnet18").state_dict()
    trunk = of_timm("resnet18", saved(tmp_path, state))
    assert trunk.pretrained
    assert all(torch.equal(value, state[key]) for key, value in trunk.net.state_dict().items())
    path = saved(tmp_path, {**state, "neck.weight": torch.ones(1)})
    with pytest.raises(InvalidInputError, match=r"1 unexpected \(neck.weight\).*timm's resnet18"):
        of_timm("resnet18", path)


def test_timm_transformers_take_weights_of_another_image_size(timm, tmp_path):
    with seeded(9):
        state = timm.create_model("vit_tiny_patch16_224").state_dict()
    trunk = of_timm("vit_tiny_patch16_224", saved(tmp_path, state))
    with torch.no_grad():
        assert trunk.map(torch.zeros(1, 3, 64, 32)).shape == (1, 192, 4, 2)


def test_timm_refusals(timm):
    with pytest.raises(UnknownNameError, match=r"'resnet18x'.*Did you mean 'resnet18'"):
        of_timm("resnet18x")
    with pytest.raises(InvalidInputError, match="tag"):
        of_timm("resnet18.no_such_tag")
    with pytest.raises(UnknownNameError, match=r"weight set of timm:resnet18 'tv'.*tv_in1k"):
        of_timm("resnet18", "tv")
    with pytest.raises(UnknownNameError, match=r"resnet18\.tv_in1k 'a1_in1k'"):
        of_timm("resnet18.tv_in1k", "a1_in1k")
    with pytest.raises(InvalidInputError, match="vector of 1024 from a map of 288"):
        of_timm("mobilenetv3_small_050")
    with pytest.raises(InvalidInputError, match=r"timm:levit_128s.*no map"):
        of_timm("levit_128s")(torch.zeros(1, 3, 224, 224))
    trunk = of_timm("vit_tiny_patch16_224")
    with pytest.raises(InvalidInputError, match=r"timm:vit_tiny.*100 x 100 px.*100"):
        trunk.map(torch.zeros(1, 3, 100, 100))
    with pytest.raises(InvalidInputError, match=r"'bdb'.*vit_tiny_patch16_224.*stride to 1"):
        trunk.honour(Wants(last_stride=1), "bdb")
    with pytest.raises(InvalidInputError, match=r"'cgd'.*non-negative.*vit_tiny.* not known"):
        trunk.honour(Wants(nonnegative=True), "cgd")


def test_without_timm_the_refusal_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "timm" in Registry().names("trunk")
    with pytest.raises(InvalidInputError, match="pip install timm"):
        load("trunk", "timm:resnet18").build()
