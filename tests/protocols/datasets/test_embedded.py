"""Datasets that ship with the code: whole, labelled by their rule, and one clear error if not."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from protocols.dataset import Dataset
from protocols.datasets import _embedded
from protocols.discovery import load
from protocols.errors import DataError
from tests.measure_datasets import colours, half, pixels_of

FOLDER = Path(_embedded.__file__).parent
LARGEST_MB = 20.0  # of all data files together: they are in git


class Golden(NamedTuple):
    """What a data file holds; whoever changes it changes every number measured on the set."""

    classes: int
    each: int  # images of a class
    salt: str
    pixels: str
    labels: str
    histogram: float  # the most that P@1 by colours alone may be, a fraction
    whole: bool = False  # the whole name is hashed, not its last word


GOLDEN = {
    "kanji": Golden(
        1000,
        12,
        "kanji-1",
        "d81242b01d8555d013b909224745d742ba5c3890e6885a5a3618a4314f768463",
        "0709f10f087be25fcba565aec4c395e5c7bba30bcfa3ddff4d555096b7e7bd69",
        0.01,
    ),
    "products": Golden(
        676,
        10,
        "products-1",
        "6a0799c1527fc0accd49230a60a5cdb38056b16f8e7f0f26dd9b17636642f33a",
        "7cbda13bb892f21741560e72c894252813738fe9723f58270a68fcbca752b2f4",
        0.04,
        whole=True,
    ),
    "objects": Golden(
        931,
        10,
        "objects-1",
        "2b48abc64d0ebd742f808034bc1eefa09329bbe70cfd0ff4b7b6ac5cf235ff66",
        "7484ceccc8d3c165d6a049a645c946f7fa6d250760398150c6af5e1e980f42b6",
        0.015,
    ),
}
NAMES = list(GOLDEN)


@cache
def dataset(name: str) -> Dataset:
    found: Dataset = load("dataset", name).load()
    return found


@cache
def manifest(name: str) -> dict[str, Any]:
    with zipfile.ZipFile(FOLDER / name / f"{name}.zip") as archive:
        content: dict[str, Any] = json.loads(archive.read("manifest.json"))
    return content


@pytest.mark.parametrize("name", NAMES)
def test_counts_and_golden_pixels(name: str) -> None:
    golden, met = GOLDEN[name], dataset(name)
    pixels = pixels_of(met)
    assert len(met.class_names) == len(set(met.class_names)) == golden.classes
    assert pixels.shape == (golden.classes * golden.each, 64, 64, 3)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == golden.pixels
    assert hashlib.sha256(met.labels.astype("<i8").tobytes()).hexdigest() == golden.labels
    assert manifest(name)["pixels_sha256"] == golden.pixels
    counts = f"{golden.classes:,} classes, {len(pixels):,} images, 64 px"
    assert counts in (load("dataset", name).__doc__ or "")


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_sorted_and_every_class_has_as_many_images(name: str) -> None:
    golden, labels = GOLDEN[name], dataset(name).labels
    assert labels.dtype == np.int64
    assert labels.tolist() == np.repeat(np.arange(golden.classes), golden.each).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_label_order_follows_the_hash_of_the_name(name: str) -> None:
    def key(word: str) -> str:
        return hashlib.sha256(f"{GOLDEN[name].salt}/{word}".encode()).hexdigest()

    names = list(dataset(name).class_names)
    # A name may say more than was hashed: "U+56DE 回", "random_urdfs/042".
    words = names if GOLDEN[name].whole else [re.split(r"[ /]", each)[-1] for each in names]
    assert words == sorted(words, key=key)


@pytest.mark.parametrize("name", NAMES)
def test_no_picture_occurs_twice_and_none_is_empty(name: str) -> None:
    pixels = pixels_of(dataset(name))
    assert max(Counter(picture.tobytes() for picture in pixels).values()) == 1
    drawn = (pixels != pixels[:, :1, :1]).any(-1).mean((1, 2))  # all but the colour of the corner
    assert drawn.min() > 0.01
    assert np.median(drawn) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_colours_alone_give_no_class_away(name: str) -> None:
    met = dataset(name)
    test = half(met)
    vectors, labels = colours(pixels_of(met)[test]), met.labels[test]
    alike = vectors @ vectors.T / np.sqrt((vectors * vectors).sum(1))
    np.fill_diagonal(alike, -1.0)
    found = (labels[alike.argmax(1)] == labels).mean()
    assert found < GOLDEN[name].histogram


@pytest.mark.parametrize("name", NAMES)
def test_digest_is_the_file_and_needs_no_decoding(name: str) -> None:
    content = (FOLDER / name / f"{name}.zip").read_bytes()
    expected = hashlib.sha256(content).hexdigest()
    assert load("dataset", name).digest() == dataset(name).digest == expected


def test_all_data_files_together_stay_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.glob("*/*.zip")}
    assert {f"{name}.zip" for name in ("emoji", *NAMES)} == set(sizes)
    assert sum(sizes.values()) < LARGEST_MB * 1e6
    assert all((path.parent / "LICENSES.md").is_file() for path in FOLDER.glob("*/*.zip"))


def test_a_study_of_one_dataset_reads_no_other() -> None:
    program = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, seen: opened.append(str(seen[0])) "
        "if event == 'open' else None)\n"
        "from protocols.discovery import Registry\n"
        "registry = Registry()\n"
        "[registry.summary('dataset', name) for name in registry.names('dataset')]\n"
        "registry.load('dataset', 'emoji').load()\n"
        "print([path for path in opened if path.endswith('.zip') and 'datasets' in path])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str([str(FOLDER / "emoji" / "emoji.zip")])


@pytest.fixture(params=NAMES)
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    name: str = request.param
    for file in (f"{name}.zip", _embedded.CHECKSUM):
        shutil.copy(FOLDER / name / file, tmp_path / file)
    return name, tmp_path


@pytest.mark.parametrize("where", [40, 1_000_000, -1])
def test_a_flipped_byte_is_named(copied: tuple[str, Path], where: int) -> None:
    name, folder = copied
    path = folder / f"{name}.zip"
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        _embedded.read(name, folder)
    message = str(error.value)
    assert f"{path}: met sha256 {hashlib.sha256(content).hexdigest()}" in message
    assert f"expected {load('dataset', name).digest()}" in message
    assert f"git checkout -- protocols/datasets/{name}" in message
    assert f"protocols.datasets.{name}.build --out" in message
    assert "\n" not in message


def test_a_truncated_or_missing_file_is_named(copied: tuple[str, Path]) -> None:
    name, folder = copied
    path = folder / f"{name}.zip"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=rf"{name}\.zip: met sha256 .*\(1000 bytes\)"):
        _embedded.read(name, folder)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}\.zip: cannot be read .*git checkout"):
        _embedded.read(name, folder)


@pytest.mark.parametrize("text", ["", "abc  {}.zip\n", "0" * 64 + "\n", "0" * 64 + "  x.zip\n"])
def test_a_damaged_checksum_file_is_named(copied: tuple[str, Path], text: str) -> None:
    name, folder = copied
    (folder / _embedded.CHECKSUM).write_text(text.format(name))
    with pytest.raises(DataError, match=rf"SHA256: met .*expected '<64 hex digits>  {name}\.zip'"):
        _embedded.read(name, folder)
