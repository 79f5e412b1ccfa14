"""Embedded: the same emoji drawn by 6 to 8 artists; 1,077 classes, 7,305 images, 64 px.

A class is an emoji, its images are the drawings of different artists. ``build.py`` makes the
data file and holds the rules; ``LICENSES.md`` names the artists.
"""

from __future__ import annotations

from pathlib import Path

from protocols.dataset import Dataset
from protocols.datasets import _embedded

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
    return _embedded.expected_digest("emoji", HERE)


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
    return _embedded.read("emoji", folder)
