"""The networks of torchvision: its own features, its weights by file and by name."""

import re
from urllib.error import URLError

import pytest
import torch
from torchvision import models

from protocols.discovery import load
from protocols.errors import BenchmarkError, InvalidInputError, UnknownNameError
from protocols.method import Wants
from protocols.trunk import InputScale
from tests.protocols.trunks.networks import (
    SHAPES,
    full,
    mobilenet_state,
    pixels,
    saved,
    seeded,
    seen_by_classifier,
)

LIBRARY = sorted(set(SHAPES) - {"bn_inception", "efficientnet_lite0"})


FORMER_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])")


@pytest.mark.parametrize("name", LIBRARY)
def test_weights_from_a_file_give_the_librarys_own_features(name, tmp_path):
    theirs = full(name)
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    trunk = load("trunk", name).build(saved(tmp_path, {"state_dict": state, "epoch": 3})).eval()
    images = pixels(107, count=2)
    with torch.no_grad():
        features = trunk(trunk.scale(images))
    expected = seen_by_classifier(theirs, InputScale()(images))
    assert trunk.pretrained
    assert expected.std() > 1e-2
    torch.testing.assert_close(features.vector, expected, rtol=1e-3, atol=1e-4)


def test_weights_by_name_are_what_torchvision_keeps_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    file = models.MobileNet_V2_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    saved(folder, mobilenet_state(), file)
    trunk = load("trunk", "mobilenet_v2").build("IMAGENET1K_V1")
    assert trunk.pretrained
    assert all(torch.equal(v, mobilenet_state()[k]) for k, v in trunk.net.state_dict().items())


def test_weights_that_cannot_be_downloaded_name_the_url(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    with pytest.raises(InvalidInputError, match=r"https://\S+/resnet50-\S+\.pth.*no route.*file"):
        load("trunk", "resnet50").build("IMAGENET1K_V1")


@pytest.mark.parametrize("name", ["IMAGENET1K_V3", "DEFAULT"])
def test_unknown_weight_set_is_refused_with_what_is_known(name):
    with pytest.raises(UnknownNameError, match=rf"'{name}'.*Known: IMAGENET1K_V1, IMAGENET1K_V2"):
        load("trunk", "resnet50").build(name)


@pytest.mark.parametrize("counters", [True, False])
def test_densenet_files_of_2017_load(tmp_path, counters):
    theirs = full("densenet121")
    state = {
        FORMER_DENSE.sub(r"\1.\2", key): value
        for key, value in theirs.state_dict().items()
        if counters or not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    trunk = load("trunk", "densenet121").build(saved(tmp_path, state)).eval()
    images = pixels(64)
    with torch.no_grad():
        vector = trunk(trunk.scale(images)).vector
    torch.testing.assert_close(vector, seen_by_classifier(theirs, InputScale()(images)))


@pytest.mark.parametrize(
    ("name", "nonnegative"),
    [
        ("resnet18", True),
        ("squeezenet1_1", True),
        ("shufflenet_v2_x0_5", True),
        ("regnet_y_400mf", True),
        ("mnasnet0_5", True),
        ("mobilenet_v3_small", False),
        ("efficientnet_b0", False),
        ("convnext_tiny", False),
        ("swin_t", False),
    ],
)
def test_a_network_by_its_name_is_cut_after_its_last_map(name, nonnegative):
    with seeded():
        trunk = load("trunk", f"torchvision:{name}").build().eval()
    with seeded():
        whole = models.get_model(name, weights=None).eval()
    seen = []
    for module in whole.modules():  # any module that is handed the map as the classifier's part is
        module.register_forward_pre_hook(lambda part, inputs: seen.append(inputs[0]))
    images = trunk.scale(pixels(64))
    with torch.no_grad():
        features = trunk(images)
        whole(images)
    shape = features.map.shape
    maps = [x for x in seen if isinstance(x, torch.Tensor) and x.shape == shape]
    assert any(torch.equal(x, features.map) for x in maps)
    assert features.map.shape[1] == trunk.channels
    assert trunk.nonnegative == nonnegative
    assert (features.map.min() >= 0) == nonnegative
    torch.testing.assert_close(features.vector, features.map.mean((2, 3)))


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v2"])
def test_a_network_that_has_a_file_of_its_own_is_the_same_by_name(name, tmp_path):
    images = pixels(64)
    file = saved(tmp_path, full(name).state_dict())
    found = []
    for asked in (name, f"torchvision:{name}"):
        trunk = load("trunk", asked).build(file).eval()
        with torch.no_grad():
            found.append(trunk(trunk.scale(images)))
        assert trunk.pretrained
    assert torch.equal(found[0].map, found[1].map)
    assert torch.equal(found[0].vector, found[1].vector)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("maxvit_t", "does not end in a map by a rule. timm has such ones"),
        ("googlenet", "Take the trunk googlenet"),
        ("resnet188", "no classification network 'resnet188' in torchvision. Did you mean"),
        ("alexnet", "trunk torchvision:alexnet cannot set its last stride to 1"),
    ],
)
def test_what_has_no_map_or_no_stride_is_refused(name, words):
    with seeded(), pytest.raises(BenchmarkError, match=re.escape(words)) as caught:
        load("trunk", f"torchvision:{name}").build().honour(Wants(last_stride=1), "bfe")
    assert "\n" not in str(caught.value)


def test_a_network_is_scaled_as_its_weights_need_it(tmp_path, monkeypatch):
    scale = load("trunk", "torchvision:vgg16")._scale
    assert scale("vgg16", "IMAGENET1K_FEATURES").std == (1 / 255, 1 / 255, 1 / 255)
    assert scale("vgg16", "IMAGENET1K_V1") == scale("vgg16", None) == InputScale()
    assert scale("efficientnet_v2_l", tmp_path / "file.pth").mean == (0.5, 0.5, 0.5)
