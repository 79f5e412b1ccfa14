"""Your own images: a folder that holds one folder per class; prepare it first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from protocols.dataset import Dataset
from protocols.datasets._official import PASSED_OVER, Entry, Files, some, tree
from protocols.datasets._own import AS_IS, SUFFIX_WORDS, Own, Reading, checked, part_of, passed_over
from protocols.decoding import SUFFIXES
from protocols.errors import DataError
from protocols.manifest import dataset_from_manifest, digest_from_manifest

ARGUMENT = "PATH"


def own_images(argument: str, reading: Reading = AS_IS) -> Own:
    """Return the images below ``argument``: a class is a folder.

    Where all folders on top are called train, val, test, query or gallery, train among them, they
    are parts, and the classes lie in them. Files of other kinds are passed over.

    Args:
        argument: the folder.
        reading: ``class_level`` says which folder is the class where images lie deeper.

    Raises:
        DataError: no folder, images outside a class folder, class folders without images, images
            below several folders without a word which of them is the class.
    """
    base = Path(argument).expanduser()
    if not base.is_dir():
        raise DataError(f"{argument}: no such folder")
    files = tree(base)
    images = [key for key in files if Path(key).suffix.lower() in SUFFIXES]
    parts = _parts(images)
    below = {key: PurePosixPath(key).parts[bool(parts) : -1] for key in images}
    level = _level(argument, below, reading.class_level)
    faults = _faults(base, files, below, level, parts)
    if faults:
        raise DataError(f"{argument}: {'; '.join(faults)}. Images end in {SUFFIX_WORDS}")
    names = {key: folders[level - 1] for key, folders in below.items()}
    number = {name: label for label, name in enumerate(sorted(set(names.values())))}
    entries = [
        Entry(key, files[key], number[names[key]], names[key], parts.get(key, "")) for key in images
    ]
    return Own(checked(entries, argument), tuple(_notes(base, parts, below, level)))


def digest(root: Path | None, argument: str) -> str:
    """Return what identifies the prepared images, without reading them."""
    return digest_from_manifest(f"folder:{argument}", root)


def load(root: Path | None, argument: str) -> Dataset:
    """Return the images as they were when they were prepared below ``root``."""
    return dataset_from_manifest(f"folder:{argument}", root, "own")


def _parts(images: list[str]) -> dict[str, str]:
    """Return each image's part, if the folders on top are parts; empty if they are classes."""
    tops = {key.partition("/")[0] if "/" in key else "" for key in images}
    found: dict[str, str] = {}
    for top in tops:
        try:
            found[top] = part_of(top)
        except DataError:
            return {}
    if "train" not in found.values() or "" in found.values() or len(found) < 2:
        return {}
    return {key: found[key.partition("/")[0]] for key in images}


def _level(argument: str, below: dict[str, tuple[str, ...]], asked: int | None) -> int:
    """Return which folder on the way to an image is its class, from 1.

    Raises:
        DataError: several lie on the way and nobody says which.
    """
    deepest = max(map(len, below.values()), default=0)
    if asked is not None:
        if not 1 <= asked <= max(deepest, 1):
            raise DataError(f"--class-level {asked}: images lie {deepest} folders deep")
        return asked
    if deepest <= 1:
        return 1
    counts = [
        len({folders[level] for folders in below.values() if len(folders) > level})
        for level in range(deepest)
    ]
    example = next(key for key, folders in below.items() if len(folders) == deepest)
    ways = ", ".join(f"--class-level {n + 1}: {count:,}" for n, count in enumerate(counts))
    raise DataError(
        f"{argument}: images lie {deepest} folders deep, as in {example!r}: which folder is the "
        f"class? Say one of ({ways} classes)"
    )


def _faults(
    base: Path, files: Files, below: dict[str, tuple[str, ...]], level: int, parts: dict[str, str]
) -> list[str]:
    """Return what keeps the folder from being a dataset."""
    loose = [key for key, folders in below.items() if len(folders) < level]
    names = {folders[level - 1] for folders in below.values() if len(folders) >= level}
    faults = []
    if loose:
        faults.append(f"images that are in no class folder: {some(loose)}")
    if empty := _empty(base, files, below, level, bool(parts)):
        faults.append(f"class folders without an image, to be filled or removed: {some(empty)}")
    if len(names) < 2:
        faults.append(f"{len(names)} class folders with images, expected one for each class")
    return faults


def _empty(
    base: Path, files: Files, below: dict[str, tuple[str, ...]], level: int, parts: bool
) -> list[str]:
    """Return class folders that hold no image, in any depth."""
    depth = level + parts
    full = {"/".join(PurePosixPath(key).parts[:depth]) for key in below}
    held = {"/".join(PurePosixPath(key).parts[:depth]) for key in files if key.count("/") >= depth}
    bare = set()
    pattern = "/".join("*" * depth)
    for path in base.glob(pattern):
        key = path.relative_to(base)
        hidden = any(part.startswith(".") or part in PASSED_OVER for part in key.parts)
        if path.is_dir() and not hidden and not any(path.iterdir()):
            bare.add(key.as_posix())
    return sorted((held | bare) - full)


def _notes(
    base: Path, parts: dict[str, str], below: dict[str, tuple[str, ...]], level: int
) -> list[str]:
    found = []
    if parts:
        count = Counter(parts.values())
        said = ", ".join(f"{part}/ ({n:,} images)" for part, n in count.items())
        found.append(f"folders on top are parts: {said}")
    if any(len(folders) > level for folders in below.values()):
        found.append("folders below the classes are not told apart")
    return found + passed_over(base)
