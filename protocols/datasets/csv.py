"""Your own images: a CSV file with columns path, label and if you like part; prepare it first."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from pathlib import Path, PurePath

from protocols.dataset import Dataset
from protocols.datasets._official import Entry, some
from protocols.errors import DataError
from protocols.manifest import PARTS, dataset_from_manifest, digest_from_manifest

ARGUMENT = "FILE"


def own_images(argument: str) -> list[Entry]:
    """Return the images that the file ``argument`` lists; paths are relative to its folder.

    Classes are numbered in the order of their labels: as numbers if all are whole numbers,
    otherwise as text. The first half of them trains.

    Raises:
        DataError: no such file, or rows that cannot be used; the message names all kinds.
    """
    table, folder = Path(argument).expanduser(), Path(argument).expanduser().absolute().parent
    rows = _rows(table, argument)
    paths = [Path(os.path.normpath(folder / row["path"])) for row in rows]
    parts = [row.get("part", "").strip() for row in rows]
    labels = [row["label"].strip() for row in rows]
    named = list(zip(paths, labels, parts, strict=True))
    faults = {
        "rows without a path": [
            label for (_, label, _), row in zip(named, rows, strict=True) if not row["path"].strip()
        ],
        "rows without a label": [str(path) for path, label, _ in named if not label],
        "listed more than once": [str(p) for p, times in Counter(paths).items() if times > 1],
        "no such file": [str(path) for path in paths if not path.is_file()],
        f"part is not {', '.join(PARTS)}": [p for p in parts if p and p not in PARTS],
        "no part, but others have one": [str(p) for p, _, part in named if any(parts) > bool(part)],
    }
    met = [f"{what}: {some(which)}" for what, which in faults.items() if which]
    if met or not rows:
        raise DataError(f"{argument}: {'; '.join(met) or 'it lists no image'}")
    whole = all(name.isdecimal() for name in labels)
    order = sorted(set(labels), key=lambda name: (int(name) if whole else 0, name))
    number = {name: label for label, name in enumerate(order)}
    keys = [_key(path, folder) for path in paths]
    lines = zip(keys, paths, labels, parts, strict=True)
    return [Entry(key, path, number[name], name, part) for key, path, name, part in lines]


def digest(root: Path | None, argument: str) -> str:
    """Return what identifies the prepared images, without reading them."""
    return digest_from_manifest(f"csv:{argument}", root)


def load(root: Path | None, argument: str) -> Dataset:
    """Return the images as they were when they were prepared below ``root``."""
    return dataset_from_manifest(f"csv:{argument}", root)


def _rows(table: Path, argument: str) -> list[dict[str, str]]:
    try:
        text = table.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(f"{argument}: {error.strerror}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True)
    try:
        rows, columns = list(reader), reader.fieldnames or ()
    except csv.Error as error:
        raise DataError(f"{argument}, line {reader.line_num}: {error}") from error
    missing = {"path", "label"} - set(columns)
    if missing:
        raise DataError(f"{argument}: expected columns path,label[,part], met {','.join(columns)}")
    return rows


def _key(path: Path, folder: Path) -> str:
    """Return where an image goes below the prepared folder.

    Images from outside the list's folder go to a folder of their own.
    """
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return PurePath("elsewhere", *path.parts[1:]).as_posix()
