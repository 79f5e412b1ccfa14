"""The networks of torchvision: its own features, its weights by file and by name."""

import re
from urllib.error import URLError

import pytest
import torch
from torchvision import models

from protocols.discovery import load
from protocols.errors import InvalidInputError, UnknownNameError
from protocols.trunk import InputScale
from tests.protocols.trunks.networks import (
    SHAPES,
    full,
    mobilenet_state,
    pixels,
    saved,
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
