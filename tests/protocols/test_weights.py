"""Weight files: which fit, which are refused, and what identifies one."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from protocols import weights
from protocols.discovery import load
from protocols.errors import InvalidInputError
from tests.protocols.trunks.networks import mobilenet_state, saved


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
        ({"weights": {"w": torch.ones(1)}}, r"no tensors \(weights: dict\)"),
        ({"model": {}}, "holds nothing"),
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


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "encoder.", "module.backbone."])
@pytest.mark.parametrize("name", [None, "model", "state_dict_ema", "teacher"])
def test_wrappers_and_prefixes_of_training_programs_are_taken_and_said(tmp_path, prefix, name):
    state = {prefix + key: value for key, value in mobilenet_state().items()}
    path = saved(tmp_path, {name: state, "epoch": 3} if name else state)
    found = weights.read(path)
    assert found.keys() == mobilenet_state().keys()
    assert all(torch.equal(found[key], value) for key, value in mobilenet_state().items())
    said = weights.unwrapping(path)
    assert f"'{prefix}' before every key is removed" in said
    assert (f"under '{name}'" in said) == bool(name)
    assert "\n" not in said


def test_a_plain_file_needs_no_word(tmp_path):
    assert weights.unwrapping(saved(tmp_path, mobilenet_state())) == ""


def test_a_prefix_of_some_keys_is_not_removed(tmp_path):
    state = {f"encoder.{key}": value for key, value in mobilenet_state().items()}
    text = refusal(saved(tmp_path, {**state, "head.weight": torch.ones(1)}))
    assert "314 of 314" in text or "keys missing" in text


def test_two_state_dicts_in_one_file_are_not_chosen_between(tmp_path):
    both = {"state_dict": mobilenet_state(), "state_dict_ema": mobilenet_state()}
    text = refusal(saved(tmp_path, both))
    assert "holds state_dict and state_dict_ema, and which is meant nobody says" in text


def damaged(change):
    key = "features.0.0.weight"
    return {**mobilenet_state(), key: change(mobilenet_state()[key])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.to(torch.int8), "1 int8 where the network has float32"),
        (lambda w: w > 0, "1 bool where the network has float32"),
        (lambda w: w.to(torch.complex64), "complex64 where the network has float32"),
        (lambda w: w * float("nan"), "1 with NaN or infinite numbers"),
        (lambda w: w.index_fill(0, torch.tensor([3]), float("inf")), "with NaN or infinite"),
        (lambda w: w.to_sparse(), "1 not dense (sparse_coo)"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "1 quantised"),
        (lambda w: w.to("meta"), "1 without values (meta)"),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path, change, words):
    with warnings.catch_warnings(action="ignore"):  # torch's, of sparse and quantised tensors
        path = saved(tmp_path, damaged(change))
    assert words in refusal(path)
    assert "features.0.0.weight" in refusal(path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_taken(tmp_path, kind):
    path = saved(tmp_path, damaged(lambda w: w.to(kind)))
    assert load("trunk", "mobilenet_v2").build(path).pretrained


def test_torchs_advice_to_run_a_files_code_is_not_passed_on(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"\x80\x02garbage that is no pickle")
    assert "weights_only" not in refusal(path)
