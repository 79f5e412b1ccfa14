"""From archives or unpacked folders to a dataset below ROOT: found, verified, hashed, listed.

The files come to ``ROOT/<dataset>/files``, or stay where they are if that is in
``ROOT/<dataset>`` already; ``manifest.csv`` is written last. What a run left unfinished lies in
``.files.part`` and is thrown away by the next.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from benchmark.intake.download import fetch
from benchmark.intake.locate import find
from benchmark.intake.unpack import LIMITS, Limits, OnProgress, quiet
from protocols import discovery, manifest
from protocols.datasets._official import Entry, Official, Published, some, verify
from protocols.datasets._own import AS_IS, Reading, check_copies
from protocols.errors import DataError, InvalidInputError
from protocols.manifest import Header, Row

_OTHERS = (
    "the images are not all those that were prepared here before: studies of those do not go on "
    "with these"
)
_CHUNK = 1024  # files handed to the hashing threads at once


@dataclass(frozen=True)
class Prepared:
    """A dataset that is ready to be used.

    Attributes:
        folder: where the dataset lies.
        header: counts and digest.
        fresh: whether this call made it; otherwise it was there.
        notes: what was noticed among the images, a sentence each.
    """

    folder: Path
    header: Header
    fresh: bool
    notes: tuple[str, ...] = ()


def prepare(
    name: str,
    root: Path,
    archive: Path | None = None,
    *,
    download: bool = False,
    official: Official | None = None,
    limits: Limits = LIMITS,
    progress: OnProgress = quiet,
    reading: Reading = AS_IS,
) -> Prepared:
    """Bring dataset ``name`` into ``root`` and verify it; nothing to do if it is there and whole.

    Args:
        name: a published dataset, ``folder:PATH`` or ``csv:FILE``; own images are looked
            through again every time, so that changes are noticed.
        root: where prepared datasets lie.
        archive: an archive, or a folder with archives or unpacked files; by default what lies
            in ``root/name``.
        download: fetch what is published at a known address first.
        official: in place of the dataset's own rules and counts.
        limits: bounds on what is unpacked.
        progress: told what is being done, how much is done and of how much.
        reading: how own images are to be read where they allow two ways.

    Raises:
        DataError: files are missing, damaged or not as many as published; the message says
            what to do.
        InvalidInputError: the dataset ships with the code.
    """
    module = discovery.load("dataset", name)
    folder = manifest.place(root, name)
    try:
        if hasattr(module, "own_images"):
            own = module.own_images(reading=replace(reading, root=root))
            done = _own(folder, own.entries, name, progress)
            return replace(done, notes=(*done.notes, *own.notes))
        official = official or getattr(module, "OFFICIAL", None)
        if official is None:
            raise InvalidInputError(f"dataset {name!r} ships with the code: nothing to prepare")
        return _official(folder, archive, name, root, official, limits, progress, download=download)
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror or error}"
        raise DataError(f"{reason}. Fix that and run the same command again") from error


def _own(folder: Path, entries: Sequence[Entry], name: str, progress: OnProgress) -> Prepared:
    stage = _stage(folder)
    rows = _bring(entries, folder, stage, progress)
    names, parts = [entry.path for entry in entries], [entry.part for entry in entries]
    try:
        check_copies(names, parts, [row.sha256 for row in rows])
    except DataError as error:
        _drop(stage)
        raise DataError(f"{name}: {error}") from error
    listed = _listed(folder, name)
    # All of a row counts: a class folder that was renamed gives other paths and names.
    if (
        listed is not None
        and list(listed[1]) == manifest.ordered(rows)
        and not _spoilt(folder, listed[1], progress)
    ):
        shutil.rmtree(stage)
        return Prepared(folder, listed[0], fresh=False)
    done = _finish(folder, stage, rows)
    if listed is None or listed[0].digest == done.header.digest:
        return done
    before = f"replaces {listed[0].images:,} images, digest {listed[0].digest[:8]}"
    return replace(done, notes=(f"{before}: a study of them does not go on with these",))


def _official(
    folder: Path,
    archive: Path | None,
    name: str,
    root: Path,
    official: Official,
    limits: Limits,
    progress: OnProgress,
    *,
    download: bool,
) -> Prepared:
    """Prepare a published dataset anew, unless it is there and each file is as it was listed."""
    listed = _listed(folder, name, official.published)
    spoilt = _spoilt(folder, listed[1], progress) if listed else []
    if listed and not spoilt:
        return Prepared(folder, listed[0], fresh=False)
    by_hand = (
        f"{official.by_hand}. Then: python -m benchmark data prepare {name} "
        f"--root {shlex.quote(str(root))} --archive FILE_OR_FOLDER"
    )
    if download and archive is None:
        _fetch_all(official, folder / "downloads", by_hand, progress)
    source, stage = archive or folder, _stage(folder)
    try:
        entries, files = find(official, source, stage, limits, progress, frozenset(spoilt))
        verify(entries, official.published)
    except DataError as error:
        _drop(stage)
        raise DataError(f"{name} in {source}: {error}{_without(spoilt)}. Get {by_hand}") from error
    rows = _bring(entries, folder, stage, progress)
    for key, path in files.items():  # the lists too, so that it can be prepared again
        if path.name in official.lists and not path.is_relative_to(folder):
            _link(path, stage / key)
    done = _finish(folder, stage, rows)
    others = listed is not None and listed[0].digest != done.header.digest
    return replace(done, notes=(_OTHERS,) if others else ())


def _without(spoilt: Sequence[Path]) -> str:
    if not spoilt:
        return ""
    return f". Passed over, being gone or not what was prepared: {some([str(p) for p in spoilt])}"


def _fetch_all(official: Official, folder: Path, by_hand: str, progress: OnProgress) -> None:
    if not official.addresses:
        raise DataError(f"no address of it is known to work. Get {by_hand}")
    for address in official.addresses:
        fetch(address, folder, by_hand, progress)


def _listed(
    folder: Path, name: str, published: Published | None = None
) -> tuple[Header, tuple[Row, ...]] | None:
    """Return what a manifest with the published counts lists; None where there is none."""
    try:
        header, rows = manifest.read(folder / manifest.FILE, name)
        if published is not None:
            entries = [Entry(r.path, folder, r.label, r.class_name, r.part) for r in rows]
            verify(entries, published)
    except DataError:
        return None
    return header, rows


def _spoilt(folder: Path, rows: Sequence[Row], progress: OnProgress) -> list[Path]:
    """Return the files that are gone, or are not those that the manifest lists."""
    paths = [folder / row.path for row in rows]
    there = [path for path in paths if path.is_file()]
    met = dict(zip(there, _sha256(there, progress), strict=True))
    return [path for path, row in zip(paths, rows, strict=True) if met.get(path) != row.sha256]


def _stage(folder: Path) -> Path:
    """Return an empty folder for what is not complete yet."""
    stage = folder / ".files.part"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    return stage


def _drop(stage: Path) -> None:
    """Remove the stage of what was refused, and its folder if nothing else is in it."""
    shutil.rmtree(stage)
    with suppress(OSError):
        stage.parent.rmdir()  # fails, as it should, where the folder holds files of before


def _bring(entries: Sequence[Entry], folder: Path, stage: Path, progress: OnProgress) -> list[Row]:
    """Put what lies elsewhere into the stage, and return the rows with their hashes."""
    files = folder / "files"
    staged = any(stage.iterdir())
    placed = []
    for entry in entries:
        here, path = entry.source, entry.source
        if not here.is_relative_to(stage) and not here.is_relative_to(folder):
            path = stage / entry.path
            _link(here, path)
        # the stage will replace the folder that holds it
        elif staged and here.is_relative_to(files):
            path = stage / here.relative_to(files)
            _link(here, path)
        placed.append(path)
    sums = _sha256(placed, progress)
    rows = []
    for entry, path, sha256 in zip(entries, placed, sums, strict=True):
        inside = files / path.relative_to(stage) if path.is_relative_to(stage) else path
        shown = inside.relative_to(folder).as_posix()
        rows.append(Row(shown, entry.label, entry.class_name, entry.part, sha256))
    return rows


def _link(source: Path, target: Path) -> None:
    """Give ``source`` a second name where the file system can, or else copy it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _sha256(paths: Sequence[Path], progress: OnProgress) -> Iterator[str]:
    waiting = iter(paths)
    done = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while chunk := list(islice(waiting, _CHUNK)):  # map() would hold all in memory
            yield from pool.map(_sha256_of, chunk)
            done += len(chunk)
            progress("hashing", done, len(paths))


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _finish(folder: Path, stage: Path, rows: Sequence[Row]) -> Prepared:
    """Give the stage its name, then write the manifest."""
    if any(stage.iterdir()):
        shutil.rmtree(folder / "files", ignore_errors=True)
        stage.rename(folder / "files")
    else:
        stage.rmdir()
    return Prepared(folder, manifest.write(folder / manifest.FILE, rows), fresh=True)
