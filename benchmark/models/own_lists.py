"""Lists that this program wrote: their labels are names of classes, whatever they look like."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from benchmark.study import checksums
from protocols import manifest
from protocols.errors import DataError

# Beside the list that `index` writes: what it is, and under this name its checksum.
GALLERY, GALLERY_SUM = "index.json", "images_sha256"
LABELS_SUM = "labels_sha256"  # of the list that `embed` writes, in the file that says the rule


def about_rows(rows: Path) -> Path:
    """Return where `embed` writes what is to be known of the embeddings in ``rows``."""
    return rows.with_name(f"{rows.name}.json")


def is_own(path: Path, labels: Mapping[Path, str]) -> bool:
    """Return whether a list is as `embed`, `index` or `data prepare` wrote it.

    Of the first two a file beside it holds its checksum. Of the third it lies in the prepared
    folder and says of its images what the manifest there says.

    Args:
        path: of the list.
        labels: of its images, by their paths.
    """
    beside = about_rows(path.with_suffix(".npy"))
    recorded = {_held(beside, LABELS_SUM), _held(path.with_name(GALLERY), GALLERY_SUM)} - {None}
    return checksums.of_file(path) in recorded or _prepared(path.parent, labels)


def _held(about: Path, name: str) -> object:
    """Return what a JSON file holds under ``name``, None where it holds no such thing."""
    try:
        body = json.loads(about.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = body.get(name) if isinstance(body, dict) else None
    return found if isinstance(found, str) else None


def _prepared(folder: Path, labels: Mapping[Path, str]) -> bool:
    """Return whether images are classed as in the manifest of the prepared ``folder``."""
    try:
        _, rows = manifest.read(folder / manifest.FILE, folder.name)
    except DataError:
        return False
    names = {os.path.normpath(folder / row.path): row.class_name.strip() for row in rows}
    return all(names.get(os.path.normpath(path)) == label for path, label in labels.items())
