"""CUB-200-2011: 11,788 photographs of 200 bird species; prepare it first (data prepare)."""

from __future__ import annotations

from pathlib import Path

from protocols.dataset import Dataset
from protocols.datasets._official import (
    Address,
    Entry,
    Files,
    Listed,
    Official,
    Published,
    entries,
    lines,
    together,
)
from protocols.errors import DataError
from protocols.manifest import dataset_from_manifest, digest_from_manifest

LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


def layout(files: Files) -> list[Entry]:
    """Return the images that the four lists of ``CUB_200_2011/`` name; ids as published.

    Raises:
        DataError: no such lists, or images are missing.
    """
    base = together(files, *LISTS)
    if base is None:
        raise DataError(f"no folder holds {', '.join(LISTS)}")
    paths, classes, trained, names = (_pairs(files[base + name]) for name in LISTS)
    listed = [
        Listed(
            f"images/{path}",
            int(classes[image]),
            names[classes[image]],
            "train" if trained[image] == "1" else "test",
        )
        for image, path in paths.items()
    ]
    return entries(files, listed, near=base)


def digest(root: Path | None = None) -> str:
    """Return what identifies the prepared dataset, without reading its images."""
    return digest_from_manifest("cub200", root)


def load(root: Path | None = None) -> Dataset:
    """Return the dataset prepared below ``root``; parts are the publisher's."""
    return dataset_from_manifest("cub200", root)


def _pairs(path: Path) -> dict[str, str]:
    """Return first word to the rest of each line."""
    pairs = (line.split(maxsplit=1) for line in lines(path))
    return {word: rest.strip() for word, rest in pairs}


OFFICIAL = Official(
    layout=layout,
    published=Published(
        11_788, 200, first_half=5_864, parts={"train": (5_994, 200), "test": (5_794, 200)}
    ),
    archives=("CUB_200_2011.tgz", "CUB_200_2011*.zip"),
    lists=LISTS,
    by_hand="CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158 (CaltechDATA, "
    "Caltech-UCSD Birds-200-2011)",
    addresses=(
        Address(
            "CUB_200_2011.tgz",
            ("https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",),
            "md5:97eceeb196236b17998738112f37df78",
        ),
    ),
)
