"""Embedded: views of 3D models of random shape; 931 classes, 9,310 images, 64 px.

A class is a model, its images are ten views of it in colours that say nothing about the class.
``build.py`` makes the data file and holds the rules; ``LICENSES.md`` names the source;
``protocols/datasets/README.md`` holds what was measured.
"""

from __future__ import annotations

from pathlib import Path

from protocols.dataset import Dataset
from protocols.datasets import _embedded

HERE = Path(__file__).parent


def digest(root: Path | None = None) -> str:
    """Return the sha256 (hex) that the data file must have, without reading the data.

    Args:
        root: not needed, the data ships with the code.

    Raises:
        DataError: the checksum file is missing or damaged.
    """
    del root
    return _embedded.expected_digest("objects", HERE)


def load(root: Path | None = None) -> Dataset:
    """Return the dataset: 64 px images, sorted by label, ten views each.

    Args:
        root: not needed, the data ships with the code.

    Raises:
        DataError: the data file or its checksum is missing or damaged.
    """
    del root
    return _embedded.read("objects", HERE)
