"""Your own images: a folder that holds one folder per class; prepare it first."""

from __future__ import annotations

from pathlib import Path

from protocols.dataset import Dataset
from protocols.datasets._official import Entry, some, tree
from protocols.decoding import SUFFIXES
from protocols.errors import DataError
from protocols.manifest import dataset_from_manifest, digest_from_manifest

ARGUMENT = "PATH"


def own_images(argument: str) -> list[Entry]:
    """Return the images below ``argument``: the class is the first folder on the way to them.

    Classes are numbered in the order of their names' code points; the first half of them
    trains. Files of other kinds are passed over.

    Raises:
        DataError: no folder, images outside a class folder, class folders without images.
    """
    base = Path(argument).expanduser()
    if not base.is_dir():
        raise DataError(f"{argument}: no such folder")
    files = tree(base)
    images = [key for key in files if Path(key).suffix.lower() in SUFFIXES]
    loose = [key for key in images if "/" not in key]
    full = sorted({key.partition("/")[0] for key in images if "/" in key})
    empty = sorted({key.partition("/")[0] for key in files if "/" in key} - set(full))
    empty += sorted(p.name for p in base.iterdir() if p.is_dir() and not any(p.iterdir()))
    faults = []
    if loose:
        faults.append(f"images that are in no class folder: {some(loose)}")
    if empty:
        faults.append(f"class folders without an image: {some(empty)}")
    if len(full) < 2:
        faults.append(f"{len(full)} class folders with images, expected one for each class")
    if faults:
        raise DataError(f"{argument}: {'; '.join(faults)}. Images end in {_ENDINGS}")
    number = {name: label for label, name in enumerate(full)}
    classes = [(key, key.partition("/")[0]) for key in images]
    return [Entry(key, files[key], number[name], name, "") for key, name in classes]


def digest(root: Path | None, argument: str) -> str:
    """Return what identifies the prepared images, without reading them."""
    return digest_from_manifest(f"folder:{argument}", root)


def load(root: Path | None, argument: str) -> Dataset:
    """Return the images as they were when they were prepared below ``root``."""
    return dataset_from_manifest(f"folder:{argument}", root)


_ENDINGS = ", ".join(sorted(SUFFIXES))
