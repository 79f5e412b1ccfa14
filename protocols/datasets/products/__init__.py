"""Embedded: views of 3D models of furniture and goods; 676 classes, 6,760 images, 64 px.

A class is a model, its images are ten views of it under random light on random grounds.
``build.py`` makes the data file and holds the rules; ``LICENSES.md`` names the maker of every
class; ``protocols/datasets/README.md`` holds what was measured.
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
    return _embedded.expected_digest("products", HERE)


def load(root: Path | None = None) -> Dataset:
    """Return the dataset: 64 px images, sorted by label, ten views each.

    Args:
        root: not needed, the data ships with the code.

    Raises:
        DataError: the data file or its checksum is missing or damaged.
    """
    del root
    return _embedded.read("products", HERE)
