"""Embedded: Japanese characters in 12 typefaces; 1,000 classes, 12,000 images, 64 px.

A class is a character of JIS level 1, its images are the same character in a pixel font, in print
and in brush, pen and decorative hands. ``build.py`` makes the data file and holds the rules;
``LICENSES.md`` names the typefaces; ``protocols/datasets/README.md`` holds what was measured.
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
    return _embedded.expected_digest("kanji", HERE)


def load(root: Path | None = None) -> Dataset:
    """Return the dataset: 64 px images, black on white, sorted by (label, typeface).

    Args:
        root: not needed, the data ships with the code.

    Raises:
        DataError: the data file or its checksum is missing or damaged.
    """
    del root
    return _embedded.read("kanji", HERE)
