"""In-Shop Clothes Retrieval: 52,712 photographs of 7,982 garments; prepare it first."""

from __future__ import annotations

from pathlib import Path

from protocols.dataset import Dataset
from protocols.datasets._official import (
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

LIST = "list_eval_partition.txt"
RECALL_AT = (1, 10, 20, 30)  # the k that papers print; Liu et al., CVPR 2016, plot 1 to 50


def layout(files: Files) -> list[Entry]:
    """Return the images of the list, classes in order of item id.

    ``img/`` may lie beside the list's folder, in ``Img/``, or anywhere else in the tree.

    Raises:
        DataError: no such list, it is cut off, or images are missing.
    """
    base = together(files, LIST)
    if base is None:
        raise DataError(f"no folder holds {LIST}")
    count, _, *rest = lines(files[base + LIST])  # a number, then the names of the columns
    rows = [line.rsplit(maxsplit=2) for line in rest]
    if len(rows) != int(count):
        raise DataError(f"{LIST} announces {int(count):,} images and lists {len(rows):,}")
    listed = [
        Listed(path.strip(), int(item.removeprefix("id_")), item, part) for path, item, part in rows
    ]
    return entries(files, listed, near=base)


def digest(root: Path | None = None) -> str:
    """Return what identifies the prepared dataset, without reading its images."""
    return digest_from_manifest("inshop", root)


def load(root: Path | None = None) -> Dataset:
    """Return the dataset prepared below ``root``; parts are train, query and gallery."""
    return dataset_from_manifest("inshop", root, "publisher")


OFFICIAL = Official(
    layout=layout,
    published=Published(
        52_712,
        7_982,
        parts={"train": (25_882, 3_997), "query": (14_218, 3_985), "gallery": (12_612, 3_985)},
    ),
    archives=("In-shop Clothes Retrieval Benchmark*.zip", "img.zip"),
    lists=(LIST,),
    by_hand=f"img.zip and {LIST} (folders Img and Eval of 'In-shop Clothes Retrieval Benchmark') "
    "into one folder from https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
)
