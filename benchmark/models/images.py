"""Images by path: files, folders and lists, read and cropped as an evaluation does."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.models.description import Description
from benchmark.models.own_lists import is_own
from benchmark.study.pixels import resize
from protocols.datasets._official import tree
from protocols.datasets._own import LabelKind, doubt, numbered, part_of
from protocols.datasets.csv import located, read_rows
from protocols.datasets.folder import folders_below, level_of, parts_of
from protocols.decoding import SUFFIXES, decode, shown
from protocols.errors import DataError
from protocols.protocol import ImagePipeline

if TYPE_CHECKING:
    from torch import Tensor

NAMED = 10  # images that cannot be read which are named; the others are counted


@dataclass(frozen=True)
class Item:
    """One image.

    Attributes:
        path: where it lies.
        label: its class, empty where nobody says.
        part: one of :data:`protocols.partition.PARTS`, empty where nobody says.
    """

    path: Path
    label: str = ""
    part: str = ""


def gather(
    places: Sequence[Path], class_level: int | None = None, labels: LabelKind | None = None
) -> list[Item]:
    """Return the images at ``places``: files, folders with all below them, CSV lists.

    In a folder the label is a folder on the way to the image, behind folders that are called as
    parts are (train, val, test, query, gallery) where all on top are. A list has a column
    ``path``, relative to its own folder, and if you like ``label`` and ``part``. Folders and lists
    are understood as ``data prepare`` understands them, with its ``folder:`` and ``csv:`` in front
    or without, and what it asks is asked here.

    Args:
        places: the files, folders and lists.
        class_level: which folder on the way to an image is its class, from 1.
        labels: whether labels of lists that look like numbers are texts or numbers.

    Raises:
        DataError: no place at all, one that does not exist or holds no image, images below several
            folders without a word which of them is the class, labels or parts with two readings.
    """
    if not places:
        raise DataError("no image was given. Give files, folders or CSV lists")
    found: list[list[Item]] = []
    lists: dict[int, Path] = {}
    for given in places:
        kind, place = place_of(given)
        if kind == "csv" or (place.suffix.lower() == ".csv" and not kind and not place.is_dir()):
            items = read_list(place)
            lists[len(found)] = place
        elif place.is_dir():
            items = _folder(place, class_level)
        elif place.is_file() and not kind:
            items = [Item(place)]
        else:
            looked_for = kind or "file or folder"
            raise DataError(f"{shown(place)}: no such {looked_for}")
        if not items:
            raise DataError(f"{shown(place)}: no image in it. Images end in {_ENDINGS}")
        found.append(items)
    settled = settle([(path, found[at]) for at, path in lists.items()], labels)
    for at, items in zip(lists, settled, strict=True):
        found[at] = items
    return [item for items in found for item in items]


def place_of(given: Path) -> tuple[Literal["csv", "folder", ""], Path]:
    """Return what a place is said to be, empty where nobody says, and where it lies.

    It is said as to ``data prepare``: ``csv:FILE`` or ``folder:PATH``. What exists under the whole
    name is meant by it.
    """
    kind, _, path = str(given).partition(":")
    if path and kind in ("csv", "folder") and not given.exists():
        return ("csv" if kind == "csv" else "folder"), Path(path).expanduser()
    return "", given


def settle(
    lists: Sequence[tuple[Path, list[Item]]], kind: LabelKind | None
) -> Sequence[list[Item]]:
    """Return the images of each list, by its path, with labels that have one reading.

    What ``data prepare`` asks is asked here, of lists that this program did not write.

    Raises:
        DataError: labels have two readings and ``kind`` is None, or are no numbers as it says.
    """
    if kind is None:
        _check_one_reading(lists)
        return [items for _, items in lists]
    try:
        meant = {"": (0, ""), **numbered(_labels_in(lists), kind)}
    except DataError as error:
        raise DataError(f"{_named(lists)}: {error}") from error
    return [[replace(item, label=meant[item.label][1]) for item in items] for _, items in lists]


def _check_one_reading(lists: Sequence[tuple[Path, list[Item]]]) -> None:
    """Raise DataError where labels have two readings, in one list or in several together."""
    if doubt(_labels_in(lists)) is None:
        return
    others = [
        (path, items)
        for path, items in lists
        if not is_own(path, {item.path: item.label for item in items})
    ]
    for some in (*([one] for one in others), others):
        if (met := doubt(_labels_in(some))) is not None:
            raise DataError(f"{_named(some)}: {met.question} {_REMEDIES[met.kind]}")


def _labels_in(lists: Sequence[tuple[Path, list[Item]]]) -> set[str]:
    return {item.label for _, items in lists for item in items if item.label}


def _named(lists: Sequence[tuple[Path, list[Item]]]) -> str:
    return " and ".join(shown(path) for path, _ in lists)


def read_list(path: Path) -> list[Item]:
    """Return the images that a CSV file lists, whether they exist or not.

    What this program writes is read to the letter; all that ``data prepare csv:FILE`` takes is
    taken too: semicolons, tabs, Latin-1, blanks and capitals in the head.

    Raises:
        DataError: it cannot be read, has no column ``path``, rows without a path, or parts that
            are none.
    """
    rows = _own_rows(path)
    if rows is None:
        rows, _ = read_rows(path, shown(path), needed=("path",))
        if bare := sum(not row["path"] for row in rows):
            raise DataError(f"{shown(path)}: rows without a path: {bare:,} of {len(rows):,}")
        rows = [{**row, "path": str(located(path.parent, row["path"]))} for row in rows]
    words = dict.fromkeys(row.get("part", "") for row in rows)
    try:
        meant = {word: part_of(word) for word in words}
    except DataError as error:
        raise DataError(f"{shown(path)}: {error}") from error
    return [
        Item(Path(row["path"]), row.get("label", "").strip(), meant[row.get("part", "")])
        for row in rows
    ]


def _own_rows(path: Path) -> list[dict[str, str]] | None:
    """Return the rows of a file as this program writes it, None where it is of another form.

    That has no other columns, in this order, and absolute paths. Names of files that are no text
    stand in it as their bytes.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, restval="")
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, csv.Error) as error:
        raise DataError(f"{shown(path)}: cannot be read as a list: {error}") from error
    if tuple(columns) not in _WRITTEN or any(None in row for row in rows):
        return None
    if not all(Path(row["path"]).is_absolute() for row in rows):
        return None
    if all(map(_is_text, ("".join(map(str, row.values())) for row in rows))):
        return rows
    named_by_bytes = (path.parent / row["path"] for row in rows if not _is_text(row["path"]))
    return rows if any(place.is_file() for place in named_by_bytes) else None


def _is_text(text: str) -> bool:
    return not any("\udc80" <= sign <= "\udcff" for sign in text)


class UnreadableError(DataError):
    """Several images that cannot be read.

    Attributes:
        lines: what keeps each of the first from being read, and how many more there are.
    """

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        super().__init__(message)
        self.lines = lines


def readable(items: Sequence[Item]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of images in their order, up to one that cannot be read.

    The others are read then nevertheless, so that all that is to be mended is said at once.

    Raises:
        DataError: images that cannot be read.
    """
    first: tuple[Item, DataError] | None = None
    count, lines = 0, list[str]()
    for item in items:
        try:
            pixels = pixels_of(item)
        except DataError as error:
            first = first or (item, error)
            count += 1
            if count <= NAMED:
                lines.append(str(error))
            continue
        if first is None:
            yield pixels
    if first is None:
        return
    if count == 1:
        raise first[1]
    if count > NAMED:
        lines.append(f"and {count - NAMED:,} more")
    raise UnreadableError(
        f"{count:,} of {len(items):,} images cannot be read, {shown(first[0].path)} the first of "
        "them. Replace each by a good copy, or leave it out",
        lines,
    )


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


def _folder(base: Path, class_level: int | None) -> list[Item]:
    try:
        files = tree(base)
    except OSError as error:
        raise DataError(f"{shown(Path(error.filename or base))}: {error.strerror}") from error
    images = {key: path for key, path in files.items() if path.suffix.lower() in SUFFIXES}
    parts = parts_of(list(images), shown(base))
    below = folders_below(images, parts)
    level = level_of(shown(base), below, class_level)
    return [
        Item(path, below[key][level - 1] if len(below[key]) >= level else "", parts.get(key, ""))
        for key, path in images.items()
    ]


_ENDINGS = ", ".join(sorted(SUFFIXES))
_WRITTEN = {("path",), ("path", "label"), ("path", "part"), ("path", "label", "part")}
_REMEDIES: dict[Literal["twins", "missing"], str] = {
    "twins": "Say --labels text (two) or --labels number (one)",
    "missing": "Say --labels text if it is a name, or leave it empty if it is missing",
}
