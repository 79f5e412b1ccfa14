"""Datasets that ship with the code: one data file and its checksum in the module's own folder.

The data file is a zip of a manifest and of lossless WebP sheets, each a column of images. The
sheets hold the images in the order (style, label), a dataset in the order (label, style).
``_building.py`` writes them. Nothing is read before a dataset is asked for by name.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from protocols.dataset import ArrayImages, Dataset
from protocols.errors import DataError

CHECKSUM = "SHA256"  # the file, in the format of sha256sum


def read(name: str, folder: Path) -> Dataset:
    """Return the dataset ``name`` held by ``name.zip`` and ``SHA256`` in ``folder``.

    Raises:
        DataError: either file is missing or damaged; nothing is decoded then.
    """
    path, expected = folder / f"{name}.zip", expected_digest(name, folder)
    content = _content(path, name)
    met = hashlib.sha256(content).hexdigest()
    if met != expected:
        raise DataError(
            f"{path}: met sha256 {met} ({len(content)} bytes), expected {expected}; {_cure(name)}"
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        sheets = [archive.read(each) for each in archive.namelist() if each.endswith(".webp")]
    side, labels = manifest["side_px"], np.array(manifest["labels"], dtype=np.int64)
    pixels = np.empty((len(labels), side, side, 3), dtype=np.uint8)
    by_style = np.argsort(manifest["style"], kind="stable")  # the order inside the sheets
    start = 0
    for sheet in sheets:
        column = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
        images = column.reshape(-1, side, side, 3)
        pixels[by_style[start : start + len(images)]] = images
        start += len(images)
    return Dataset(name, ArrayImages(pixels), labels, manifest["class_names"], met)


def expected_digest(name: str, folder: Path) -> str:
    """Return the sha256 (hex) of ``name.zip`` that the file ``SHA256`` in ``folder`` gives.

    Raises:
        DataError: the file is missing or not in the format of sha256sum.
    """
    path = folder / CHECKSUM
    text = _content(path, name).decode("ascii", "replace")
    expected, _, file = text.strip().partition("  ")
    if len(expected) != 64 or set(expected) - set("0123456789abcdef") or file != f"{name}.zip":
        raise DataError(
            f"{path}: met {text.strip()[:80]!r}, expected '<64 hex digits>  {name}.zip'; "
            f"{_cure(name)}"
        )
    return expected


def _content(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {_cure(name)}") from error


def _cure(name: str) -> str:
    place = f"protocols/datasets/{name}"
    return (
        f"restore both files with 'git checkout -- {place}' or make them again with "
        f"'python -m protocols.datasets.{name}.build --out {place}'"
    )
