"""Images by path: files, folders and lists, read and cropped as an evaluation does."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.models.description import Description
from benchmark.study.pixels import resize
from protocols.datasets._official import PASSED_OVER
from protocols.datasets.csv import read_rows
from protocols.decoding import SUFFIXES, decode, shown
from protocols.errors import DataError
from protocols.partition import PARTS
from protocols.protocol import ImagePipeline

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Item:
    """One image.

    Attributes:
        path: where it lies.
        label: its class, empty where nobody says.
        part: ``query`` or ``gallery``, empty where it is both.
    """

    path: Path
    label: str = ""
    part: str = ""


def gather(places: Sequence[Path]) -> list[Item]:
    """Return the images at ``places``: files, folders with all below them, CSV lists.

    In a folder the label is the first folder on the way to the image, behind folders that are
    called as parts are (train, val, test, query, gallery) where all on top are. A list has a column
    ``path``, relative to its own folder, and if you like ``label`` and ``part``.

    Raises:
        DataError: a place that does not exist or holds no image.
    """
    found: list[Item] = []
    for place in places:
        if place.is_dir():
            items = _folder(place)
        elif place.suffix.lower() == ".csv":
            items = read_list(place)
        elif place.is_file():
            items = [Item(place)]
        else:
            raise DataError(f"{shown(place)}: no such file or folder")
        if not items:
            raise DataError(f"{shown(place)}: no image in it. Images end in {_ENDINGS}")
        found += items
    return found


def read_list(path: Path) -> list[Item]:
    """Return the images that a CSV file lists, whether they exist or not.

    What this program writes is read to the letter; all that ``data prepare csv:FILE`` takes is
    taken too: semicolons, tabs, Latin-1, blanks and capitals in the head.

    Raises:
        DataError: it cannot be read, or has no column ``path``.
    """
    rows = _own_rows(path)
    if rows is None:
        rows, _ = read_rows(path, shown(path), needed=("path",))
    return [
        Item(path.parent / row["path"], row.get("label", "").strip(), row.get("part", "").strip())
        for row in rows
    ]


def _own_rows(path: Path) -> list[dict[str, str]] | None:
    """Return the rows of a file as this program writes it, None where it is of another form.

    Names of files that are no text stand in it as their bytes.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, restval="")
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, csv.Error) as error:
        raise DataError(f"{shown(path)}: cannot be read as a list: {error}") from error
    if "path" not in columns:
        return None
    if all(map(_is_text, ("".join(map(str, row.values())) for row in rows))):
        return rows
    named_by_bytes = (path.parent / row["path"] for row in rows if not _is_text(row["path"]))
    return rows if any(place.is_file() for place in named_by_bytes) else None


def _is_text(text: str) -> bool:
    return not any("\udc80" <= sign <= "\udcff" for sign in text)


def pixels_of(item: Item) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8, upright RGB.

    Raises:
        DataError: it cannot be read.
    """
    try:
        content = item.path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown(item.path)}: {error.strerror}") from error
    return decode(content, shown(item.path)).pixels


def cropped(pixels: NDArray[np.uint8], description: Description) -> Tensor:
    """Return what a model sees of an (H, W, 3) image: (1, 3, H, W) float32 in 0..255."""
    import torch  # only now: a command says first what it reads

    from protocols.images import crop, eval_boxes

    pipeline = ImagePipeline(description.resize_px, description.crop_px)
    stored = resize(pixels, pipeline.resize_px)
    boxes = eval_boxes(pipeline, np.array([stored.shape[:2]]))
    return crop(torch.from_numpy(stored.copy())[None], boxes, pipeline.crop_px)


def _folder(base: Path) -> list[Item]:
    found: list[Path] = []
    for here, folders, names in os.walk(base):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in PASSED_OVER)
        for name in sorted(names):
            path = Path(here, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                found.append(path)
    between = {path: path.relative_to(base).parts[:-1] for path in found}
    tops = {folders[0].lower() if len(folders) > 1 else "" for folders in between.values()}
    in_parts = len(tops) > 1 and tops <= set(PARTS)
    return [
        Item(path, folders[1], folders[0].lower())
        if in_parts
        else Item(path, folders[0] if folders else "")
        for path, folders in between.items()
    ]


_ENDINGS = ", ".join(sorted(SUFFIXES))
