"""Files of arrays, held against the package whose format they are."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from benchmark.study import tensors
from protocols.errors import StoreError

ARRAYS = {
    "b": np.array([True, False, True]),
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "wide": np.arange(3, dtype=np.int64),
    "half": np.ones((2, 1), np.float16),
    "byte": np.arange(5, dtype=np.uint8),
    "one": np.array(2.5),
    "none": np.zeros((0, 4), np.float32),
}
NOTE = {"settings": {"margin": 0.1}, "seed": 3}


def test_the_package_reads_the_same_arrays(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensors.pack(ARRAYS, NOTE))
    with safe_open(path, "np") as file:
        assert set(file.keys()) == set(ARRAYS)
        for name, values in ARRAYS.items():
            met = file.get_tensor(name)
            assert met.dtype == values.dtype
            assert np.array_equal(met, values)
        assert json.loads(file.metadata()["benchmark"]) == NOTE


def test_what_the_package_writes_is_read():
    content = save({"x": torch.arange(4.0)}, {"benchmark": '{"a": 1}'})
    arrays, note = tensors.unpack(content, "x")
    assert arrays["x"].tolist() == [0, 1, 2, 3]
    assert note == {"a": 1}


def test_it_comes_back_and_the_bytes_depend_on_the_content_alone():
    content = tensors.pack(ARRAYS, NOTE)
    arrays, note = tensors.unpack(content, "x")
    assert note == NOTE
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)
    backwards = dict(reversed(ARRAYS.items()))
    assert tensors.pack(backwards, dict(reversed(NOTE.items()))) == content
    code = (
        "import sys; from numpy import *; from benchmark.study import tensors\n"
        "arrays = {k: arange(9, dtype=k) for k in ('f4', 'i8', 'u1')}\n"
        "sys.stdout.buffer.write(tensors.pack(arrays, {k: 1 for k in 'abc'}))"
    )
    words = [sys.executable, "-c", code]
    met = {subprocess.run(words, capture_output=True, check=True).stdout for _ in range(2)}
    assert len(met) == 1, "another process, another order of hashes"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:100],
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: content[:20] + b"#" + content[21:],
        lambda content: save({"x": torch.ones(1)}),
        lambda content: tensors.pack({}, NOTE).replace(b"__metadata__", b"__metadatA__"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused(damage):
    content = damage(tensors.pack(ARRAYS, NOTE))
    with pytest.raises(StoreError, match=r"^file: not a file of weights"):
        tensors.unpack(content, "file")


def test_a_flipped_length_does_not_read_beyond_the_end():
    content = tensors.pack(ARRAYS, NOTE).replace(b'"shape":[2,3]', b'"shape":[2,4]')
    with pytest.raises(StoreError):
        tensors.unpack(content, "file")
    with pytest.raises(SafetensorError):
        load(content)
