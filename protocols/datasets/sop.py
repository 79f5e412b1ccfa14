"""Stanford Online Products: 120,053 photographs of 22,634 articles; prepare it first."""

from __future__ import annotations

from dataclasses import replace
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

LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}

RECALL_AT = (1, 10, 100, 1000)  # Song et al., CVPR 2016, who published the dataset


def layout(files: Files) -> list[Entry]:
    """Return the images of both lists; class ids as published, 1 to 22,634.

    Raises:
        DataError: no such lists, or images are missing.
    """
    base = together(files, *LISTS.values())
    if base is None:
        raise DataError(f"no folder holds {' and '.join(LISTS.values())}")
    listed = []
    for part, name in LISTS.items():
        for line in lines(files[base + name])[1:]:  # the first line names the columns
            _, class_id, _, path = line.split(maxsplit=3)
            kind = path.partition("/")[0].removesuffix("_final")
            listed.append(Listed(path.strip(), int(class_id), f"{kind} {class_id}", part))
    return entries(files, listed, near=base)


def digest(root: Path | None = None) -> str:
    """Return what identifies the prepared dataset, without reading its images."""
    return digest_from_manifest("sop", root)


def load(root: Path | None = None) -> Dataset:
    """Return the dataset prepared below ``root``; parts are the publisher's.

    A class's coarser class is the kind of article, one of twelve, with which its name begins.
    """
    found = dataset_from_manifest("sop", root)
    return replace(found, class_groups=[name.rpartition(" ")[0] for name in found.class_names])


OFFICIAL = Official(
    layout=layout,
    published=Published(
        120_053, 22_634, parts={"train": (59_551, 11_318), "test": (60_502, 11_316)}
    ),
    archives=("Stanford_Online_Products*.zip",),
    lists=tuple(LISTS.values()),
    by_hand="Stanford_Online_Products.zip from https://cvgl.stanford.edu/projects/lifted_struct/",
    addresses=(
        Address(
            "Stanford_Online_Products.zip",
            (
                "http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
                "ftp://cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
            ),
            "md5:7f73d41a2f44250d4779881525aea32e",
        ),
    ),
)
