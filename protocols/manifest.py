"""A dataset on disk: which files, under which labels, and proof that they are those files.

``ROOT/<dataset>/manifest.csv`` holds a line of JSON (name, counts, digests), the column names
and one row per image, sorted by label and then content, so equal digests mean equal pictures
at equal positions, wherever the files lie and whatever they are called. Text is UTF-8; bytes
of a file's name that are not survive (surrogateescape).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.dataset import Dataset
from protocols.decoding import AND_PREPARE, decode, read_file, shown
from protocols.errors import DataError
from protocols.partition import PARTS, Rule

FILE = "manifest.csv"
SCHEMA = 1
_SHA256 = re.compile("[0-9a-f]{64}")


class Row(NamedTuple):
    """One image: where it lies below the dataset's folder, what it shows, what it is."""

    path: str
    label: int
    class_name: str
    part: str  # "" where the publisher names none
    sha256: str


@dataclass(frozen=True)
class Header:
    """The first line of a manifest: all that is known without reading the rows.

    Attributes:
        name: the dataset's folder.
        images: how many rows follow.
        classes: how many labels they have.
        digest: over (sha256, label, part) of the rows: the dataset's identity.
        rows: sha256 over the text that follows: shows an edit by hand.
    """

    name: str
    images: int
    classes: int
    digest: str
    rows: str
    schema: int = SCHEMA


@dataclass(frozen=True)
class ManifestImages:
    """Images in files, each checked against its sha256 when it is read."""

    concurrent: ClassVar[bool] = True  # a call opens a file of its own and shares nothing
    folder: Path
    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return image ``index`` as (H, W, 3) uint8, upright RGB.

        Raises:
            DataError: the file is gone, changed or no readable image.
        """
        path = self.folder / self.rows[index].path
        return decode(read_file(path, self.rows[index].sha256), shown(path), AND_PREPARE).pixels


def place(root: Path, name: str) -> Path:
    """Return the folder of dataset ``name`` below ``root``, wherever a command is run from."""
    stem, colon, argument = name.partition(":")
    if not colon:
        return root / stem
    target = Path(argument).expanduser().resolve()
    tag = hashlib.sha256(str(target).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    word = re.sub(r"[^A-Za-z0-9]+", "-", target.stem).strip("-")[:40]
    return root / "-".join(filter(None, (stem, word, tag)))


def dataset_from_manifest(name: str, root: Path | None, rule: Rule = "halves") -> Dataset:
    """Return the dataset prepared below ``root``, cut by ``rule``; no image is read.

    Raises:
        DataError: not prepared, or the manifest is damaged or edited.
    """
    folder = place(_rooted(name, root), name)
    header, rows = read(folder / FILE, name)
    names = {row.label: row.class_name for row in rows}
    parts = np.array([row.part for row in rows]) if rows[0].part else None
    return Dataset(
        name=name,
        images=ManifestImages(folder, rows),
        labels=np.array([row.label for row in rows], np.int64),
        class_names=[names[label] for label in range(header.classes)],
        digest=header.digest,
        parts=parts,
        rule=rule,
        sums=[row.sha256 for row in rows],
    )


def digest_from_manifest(name: str, root: Path | None) -> str:
    """Return the digest of the dataset prepared below ``root``, from the first line alone.

    Raises:
        DataError: not prepared, or the line is damaged.
    """
    return read_header(place(_rooted(name, root), name) / FILE, name).digest


def write(path: Path, rows: Iterable[Row]) -> Header:
    """Write the manifest of ``rows``, sorted; the file is complete or not there.

    Raises:
        DataError: the rows are no dataset: see the message.
    """
    rows = ordered(rows)
    _check(rows, str(path))
    fields = [Row._fields, *((r.path, str(r.label), *r[2:]) for r in rows)]
    body = "".join(",".join(map(_quoted, line)) + "\n" for line in fields)
    encoded = body.encode("utf-8", "surrogateescape")
    header = Header(
        name=path.parent.name,
        images=len(rows),
        classes=rows[-1].label + 1,
        digest=digest(rows),
        rows=hashlib.sha256(encoded).hexdigest(),
    )
    part = path.with_suffix(".part")
    part.write_bytes(json.dumps(vars(header), sort_keys=True).encode() + b"\n" + encoded)
    part.replace(path)
    return header


def read(path: Path, name: str) -> tuple[Header, tuple[Row, ...]]:
    """Return the header and all rows of the manifest of dataset ``name``.

    Raises:
        DataError: missing, damaged, edited by hand, or naming files outside its folder.
    """
    header = read_header(path, name)
    body = path.read_bytes().partition(b"\n")[2]
    if hashlib.sha256(body).hexdigest() != header.rows:
        raise DataError(f"{path}: the rows were edited by hand or damaged. {_again(name)}")
    lines = csv.reader(io.StringIO(body.decode("utf-8", "surrogateescape"), newline=""))
    next(lines)
    try:
        rows = tuple(Row(p, int(label), *rest) for p, label, *rest in lines)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: a row is not {Row._fields}. {_again(name)}") from error
    _check(rows, str(path))
    met = (path.parent.name, len(rows), rows[-1].label + 1, digest(rows))
    if met != (header.name, header.images, header.classes, header.digest):
        raise DataError(f"{path}: the first line was edited by hand or moved. {_again(name)}")
    return header, rows


def read_header(path: Path, name: str) -> Header:
    """Return the first line of the manifest of dataset ``name``.

    Raises:
        DataError: no such file, or its first line is not one.
    """
    try:
        with path.open("rb") as file:
            values: dict[str, Any] = json.loads(file.readline(4096))
        header = Header(**values)
    except OSError as error:
        where = "The command 'data list' says where to get it"
        raise DataError(f"dataset {name!r} is not in {path.parent}. {_again(name)}. {where}") from (
            error
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: its first line is damaged. {_again(name)}") from error
    if header.schema != SCHEMA or not _SHA256.fullmatch(str(header.digest)):
        raise DataError(f"{path}: format {header.schema}, expected {SCHEMA}. {_again(name)}")
    return header


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Return the rows in the order of a manifest: names of files decide only between equals."""
    return sorted(rows, key=lambda row: (row.label, row.sha256, row.part, row.path))


def digest(rows: Iterable[Row]) -> str:
    """Return the sha256 (hex) over (sha256, label, part) of the rows, in manifest order."""
    text = "".join(f"{row.sha256} {row.label} {row.part}\n" for row in ordered(rows))
    return hashlib.sha256(text.encode()).hexdigest()


def _again(name: str) -> str:
    return f"Prepare it again: python -m benchmark data prepare {shlex.quote(name)} --root DIR"


def _rooted(name: str, root: Path | None) -> Path:
    if root is None:
        raise DataError(
            f"dataset {name!r} does not ship with the code: prepare it (python -m benchmark data "
            f"prepare {shlex.quote(name)} --root DIR), then give the same --root DIR"
        )
    return root


def _check(rows: Sequence[Row], where: str) -> None:
    """Raise unless the rows are a dataset: labels without gaps, files inside, each once."""
    labels = sorted({row.label for row in rows})
    names = {(row.label, row.class_name) for row in rows}
    faults = {
        "there are no images": not rows,
        "labels are not 0, 1, 2 ... without a gap": labels != list(range(len(labels))),
        "a label has two class names": len(names) != len(labels),
        "a file stands in it twice": len({row.path for row in rows}) != len(rows),
        "a part is not " + ", ".join(PARTS): any(r.part not in (*PARTS, "") for r in rows),
        "some images have a part and some do not": len({bool(row.part) for row in rows}) > 1,
        "a sha256 is not 64 hex digits": not all(_SHA256.fullmatch(r.sha256) for r in rows),
    }
    outside = [row.path for row in rows if not is_inside(row.path)]
    faults[f"file {outside[0] if outside else ''!r} lies outside its folder"] = bool(outside)
    met = [fault for fault, is_so in faults.items() if is_so]
    if met:
        raise DataError(f"{where}: {'; '.join(met)}. Prepare the dataset again")


def is_inside(path: str) -> bool:
    """Say whether a relative path stays below the folder it is relative to."""
    pure = PurePath(path)
    rooted = pure.is_absolute() or bool(pure.drive or pure.root)
    return bool(pure.parts) and not rooted and ".." not in pure.parts and "\0" not in path


def _quoted(field: str) -> str:
    if any(mark in field for mark in '",\r\n'):
        return '"' + field.replace('"', '""') + '"'
    return field
