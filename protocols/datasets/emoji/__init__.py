"""Embedded: the same emoji drawn by 6 to 8 artists; 1,077 classes, 7,305 images, 64 px.

A class is an emoji, its images are the drawings of different artists. ``build.py`` makes the
data file and holds the rules; ``LICENSES.md`` names the artists.
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

HERE = Path(__file__).parent
FILE = "emoji.zip"


def digest(root: Path | None = None) -> str:
    """Return the sha256 (hex) that the data file must have, without reading the data.

    Args:
        root: not needed, the data ships with the code.

    Raises:
        DataError: the checksum file is missing or damaged.
    """
    del root
    return expected_digest(HERE)


def load(root: Path | None = None) -> Dataset:
    """Return the dataset: 64 px images on white, sorted by (label, style).

    Args:
        root: not needed, the data ships with the code.

    Raises:
        DataError: the data file or its checksum is missing or damaged.
    """
    del root
    return read(HERE)


def read(folder: Path) -> Dataset:
    """Return the dataset held by ``emoji.zip`` and ``SHA256`` in ``folder``.

    Raises:
        DataError: either file is missing or damaged; nothing is decoded then.
    """
    expected = expected_digest(folder)
    content = _content(folder / FILE)
    met = hashlib.sha256(content).hexdigest()
    if met != expected:
        raise DataError(
            f"{folder / FILE}: met sha256 {met} ({len(content)} bytes), "
            f"expected {expected}; {_CURE}"
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        sheets = [archive.read(name) for name in archive.namelist() if name.endswith(".webp")]
    side, labels = manifest["side_px"], np.array(manifest["labels"], dtype=np.int64)
    pixels = np.empty((len(labels), side, side, 3), dtype=np.uint8)
    by_style = np.argsort(manifest["style"], kind="stable")  # the order inside the sheets
    start = 0
    for sheet in sheets:
        column = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
        images = column.reshape(-1, side, side, 3)
        pixels[by_style[start : start + len(images)]] = images
        start += len(images)
    return Dataset("emoji", ArrayImages(pixels), labels, manifest["class_names"], met)


def expected_digest(folder: Path) -> str:
    """Return the sha256 (hex) of ``emoji.zip`` that the file ``SHA256`` in ``folder`` gives.

    Raises:
        DataError: the file is missing or not in the format of sha256sum.
    """
    text = _content(folder / "SHA256").decode("ascii", "replace")
    expected, _, name = text.strip().partition("  ")
    if len(expected) != 64 or set(expected) - set("0123456789abcdef") or name != FILE:
        raise DataError(
            f"{folder / 'SHA256'}: met {text.strip()[:80]!r}, "
            f"expected '<64 hex digits>  {FILE}'; {_CURE}"
        )
    return expected


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {_CURE}") from error


_CURE = (
    "restore both files with 'git checkout -- protocols/datasets/emoji' or make them again "
    "with 'python -m protocols.datasets.emoji.build --out protocols/datasets/emoji'"
)
