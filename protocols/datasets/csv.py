"""Your own images: a CSV file with columns path, label and if you like part; prepare it first."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath

from protocols.dataset import Dataset
from protocols.datasets._official import Entry, some
from protocols.datasets._own import (
    AS_IS,
    Own,
    Reading,
    alike,
    checked,
    numbered,
    part_of,
)
from protocols.decoding import SUFFIXES
from protocols.errors import DataError
from protocols.manifest import dataset_from_manifest, digest_from_manifest

ARGUMENT = "FILE"
COLUMNS = ("path", "label", "part")
_SEPARATORS = (",", ";", "\t", "|")


def own_images(argument: str, reading: Reading = AS_IS) -> Own:
    """Return the images that the file ``argument`` lists; paths are relative to its folder.

    Columns are path, label and part, in any case and order, between commas, semicolons, tabs or
    bars; others are passed over. ``part`` is law: see :mod:`protocols.partition`.

    Args:
        argument: the file.
        reading: ``labels`` says whether labels like 001 are texts or numbers.

    Raises:
        DataError: no such file, or rows that cannot be used; the message names all kinds.
    """
    table, folder = Path(argument).expanduser(), Path(argument).expanduser().absolute().parent
    rows, notes = read_rows(table, argument)
    paths = [located(folder, row["path"]) for row in rows]
    words, labels = [row["part"] for row in rows], [row["label"] for row in rows]
    try:
        meant = {word: part_of(word) for word in dict.fromkeys(words)}
        number = numbered((name for name in labels if name), reading.labels)
    except DataError as error:
        raise DataError(f"{argument}: {error}") from error
    parts = [meant[word] for word in words]
    faults = _faults(rows, paths, labels, parts)
    met = [f"{what}: {some(which)}" for what, which in faults.items() if which]
    if met or not rows:
        raise DataError(f"{argument}: {'; '.join(met) or 'it lists no image'}")
    entries = [
        Entry(_key(path, folder), path, *number[label], part)
        for path, label, part in zip(paths, labels, parts, strict=True)
    ]
    return Own(checked(entries, argument), (*notes, *alike(entry.class_name for entry in entries)))


def digest(root: Path | None, argument: str) -> str:
    """Return what identifies the prepared images, without reading them."""
    return digest_from_manifest(f"csv:{argument}", root)


def load(root: Path | None, argument: str) -> Dataset:
    """Return the images as they were when they were prepared below ``root``."""
    return dataset_from_manifest(f"csv:{argument}", root, "own")


def _faults(
    rows: Sequence[dict[str, str]],
    paths: Sequence[Path],
    labels: Sequence[str],
    parts: Sequence[str],
) -> dict[str, list[str]]:
    """Return what is wrong with rows, by kind, and in which."""
    return {
        "rows without a path": [
            label for label, row in zip(labels, rows, strict=True) if not row["path"]
        ],
        "rows without a label": [
            str(path) for path, label in zip(paths, labels, strict=True) if not label
        ],
        **role_faults(paths, parts),
        "no such file": [str(path) for path in paths if not path.is_file()],
        "no image by its ending": [
            str(path) for path in paths if path.suffix.lower() not in SUFFIXES and path.is_file()
        ],
    }


def role_faults(paths: Sequence[Path], parts: Sequence[str]) -> dict[str, list[str]]:
    """Return what is wrong with the parts that images have, by kind, and with which images."""
    roles: dict[Path, set[str]] = defaultdict(set)
    for path, part in zip(paths, parts, strict=True):
        roles[path].add(part)
    twice = [path for path, times in Counter(paths).items() if times > 1]
    both = [path for path in twice if roles[path] == {"query", "gallery"}]
    some_have_one = any(parts)
    return {
        "query and gallery at once, so they would find themselves": list(map(str, both)),
        "listed more than once": [
            str(path) for path in twice if roles[path] != {"query", "gallery"}
        ],
        "no part, but others have one": [
            str(path) for path, part in zip(paths, parts, strict=True) if some_have_one and not part
        ],
    }


def read_rows(
    table: Path, argument: str, needed: Sequence[str] = ("path", "label")
) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """Return the rows with the columns that are known, blanks stripped, and what was noticed.

    Raises:
        DataError: no such file, or not a table with the columns ``needed``.
    """
    try:
        content = table.read_bytes()
    except OSError as error:
        raise DataError(f"{argument}: {error.strerror}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f"{argument}: it is UTF-16, as spreadsheets write for 'Unicode text'; save it as CSV "
            "UTF-8"
        )
    text, notes = _decoded(content)
    head = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
    )
    try:
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise DataError(f"{argument}, line {reader.line_num}: {error}") from error
    columns = [name.strip().lower() for name in lines[0]] if lines else []
    if set(needed) - set(columns):
        own = "columns path,label[,part]" if "label" in needed else "a column path, and label, part"
        raise DataError(f"{argument}: expected {own}; met {','.join(columns) or 'nothing'}")
    if doubled := [n for n in COLUMNS if columns.count(n) > 1]:
        raise DataError(f"{argument}: column {doubled[0]!r} stands there twice")
    if others := [name for name in columns if name not in COLUMNS]:
        notes.append(f"columns passed over: {', '.join(repr(name) for name in others)}")
    at = {name: columns.index(name) for name in COLUMNS if name in columns}
    rows = []
    for line in lines[1:]:
        if len(line) > len(columns):
            raise DataError(
                f"{argument}: {len(line)} values under {len(columns)} columns in {some(line)}"
            )
        found = {name: line[i].strip() if i < len(line) else "" for name, i in at.items()}
        rows.append({"label": "", "part": "", **found})
    return rows, tuple(notes)


def _decoded(content: bytes) -> tuple[str, list[str]]:
    """Return a table's text: UTF-8, with or without a mark in front, or else Latin-1."""
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("latin-1"), ["no UTF-8: read as Latin-1"]


def located(folder: Path, text: str) -> Path:
    """Return where a listed path leads; names of files may be bytes that are no text."""
    path = Path(os.path.normpath(folder / text))
    if path.is_file() or text.isascii():
        return path
    try:
        raw = Path(os.path.normpath(folder / os.fsdecode(text.encode("latin-1"))))
    except UnicodeEncodeError:
        return path
    return raw if raw.is_file() else path


def _key(path: Path, folder: Path) -> str:
    """Return where an image goes below the prepared folder.

    Images from outside the list's folder go to a folder of their own.
    """
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return PurePath("elsewhere", *path.parts[1:]).as_posix()
