"""Your own images: a folder that holds one folder per class; prepare it first."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from protocols.dataset import Dataset
from protocols.datasets._official import PASSED_OVER, Entry, Files, some, tree
from protocols.datasets._own import (
    AS_IS,
    SUFFIX_WORDS,
    Own,
    Reading,
    alike,
    checked,
    nearest_part,
    part_of,
    passed_over,
)
from protocols.decoding import SUFFIXES
from protocols.errors import DataError
from protocols.manifest import FILE, dataset_from_manifest, digest_from_manifest, read_header
from protocols.partition import PARTS

ARGUMENT = "PATH"


def own_images(argument: str, reading: Reading = AS_IS) -> Own:
    """Return the images below ``argument``: a class is a folder.

    Where all folders on top are called train, val, test, query or gallery, and there are several,
    they are parts, and the classes lie in them. Files of other kinds are passed over, and so are
    prepared datasets.

    Args:
        argument: the folder.
        reading: ``class_level`` says which folder is the class where images lie deeper, ``root``
            where prepared datasets lie.

    Raises:
        DataError: no folder, images outside a class folder, class folders without images, images
            below several folders without a word which of them is the class, folders on top of
            which some are called as parts are and others nearly, one part alone.
    """
    base = Path(argument).expanduser()
    if not base.is_dir():
        raise DataError(f"{argument}: no such folder")
    aside = _prepared(base, reading.root)
    files = {key: path for key, path in tree(base).items() if not _inside(key, aside)}
    images = [key for key in files if Path(key).suffix.lower() in SUFFIXES]
    parts = parts_of(images, argument)
    below = folders_below(images, parts)
    alone = "" if parts else lone_part(images)
    if alone and reading.class_level is None:
        lacking = "nothing to test" if alone.lower() == "train" else "nothing to train on"
        raise DataError(
            f"{argument}: only {alone}/ is there, {lacking}. Lay the other parts beside it; if it "
            f"is no part, say {shlex.quote(f'folder:{Path(argument, alone)}')}, or --class-level "
            "where it is one of the folders on the way to the classes"
        )
    level = level_of(argument, below, reading.class_level)
    faults = _faults(base, below, level, parts, [*aside, *_below(base, reading.root)])
    if faults:
        raise DataError(f"{argument}: {'; '.join(faults)}. Images end in {SUFFIX_WORDS}")
    names = {key: folders[level - 1] for key, folders in below.items()}
    number = {name: label for label, name in enumerate(sorted(set(names.values())))}
    entries = [
        Entry(key, files[key], number[names[key]], names[key], parts.get(key, "")) for key in images
    ]
    notes = [f"{alone}/ on top is read as a plain folder, not as a part"] if alone else []
    notes += [f"passed over {one}: prepared images lie in it" for one in aside]
    notes += _notes(files, parts, below, level)
    return Own(checked(entries, argument), (*notes, *alike(names.values())))


def digest(root: Path | None, argument: str) -> str:
    """Return what identifies the prepared images, without reading them."""
    return digest_from_manifest(f"folder:{argument}", root)


def load(root: Path | None, argument: str) -> Dataset:
    """Return the images as they were when they were prepared below ``root``."""
    return dataset_from_manifest(f"folder:{argument}", root, "own")


def parts_of(images: Sequence[str], where: str) -> dict[str, str]:
    """Return each image's part, if the folders on top are parts; empty if they are classes.

    Args:
        images: paths below the folder, joined by "/".
        where: the folder, for the message.

    Raises:
        DataError: folders on top look like a split in other words, which would be lost.
    """
    tops = {key.partition("/")[0] if "/" in key else "" for key in images}
    known = {top for top in tops if top.strip().lower() in PARTS}
    others = sorted(tops - known)
    if len(tops) < 2:
        return {}
    if not others:
        return {key: part_of(key.partition("/")[0]) for key in images}
    # Only folders that hold folders can be parts: classes lie in them.
    hold_folders = all(key.count("/") > 1 for key in images)
    alike = known and all(nearest_part(top) for top in others)
    begin_alike = all(top.lower().startswith(PARTS) for top in tops)
    if hold_folders and (len(known) > 1 or alike or begin_alike):
        try:
            part_of(others[0])
        except DataError as error:
            raise DataError(
                f"{where}, folders on top: {error} Rename folders that are parts to these words; "
                "if all are classes, rename those that are called like parts"
            ) from error
    return {}


def lone_part(images: Sequence[str]) -> str:
    """Return the one folder on top, if it is called like a part and holds folders; else ""."""
    tops = {key.partition("/")[0] for key in images if key.count("/") > 1}
    top = min(tops, default="")
    alone = len(tops) == 1 and all(key.startswith(f"{top}/") for key in images)
    return top if alone and top.strip().lower() in PARTS else ""


def folders_below(images: Iterable[str], parts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the folders on the way to each image, below those that are parts."""
    return {key: PurePosixPath(key).parts[bool(parts) : -1] for key in images}


def level_of(argument: str, below: Mapping[str, tuple[str, ...]], asked: int | None) -> int:
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


def _prepared(base: Path, root: Path | None) -> list[str]:
    """Return the folders of prepared datasets of ``root`` that lie below ``base``."""
    if root is None or not root.is_dir():
        return []
    found = []
    for folder in sorted(root.iterdir()):
        with suppress(DataError):  # no dataset
            read_header(folder / FILE, folder.name)
            found += _below(base, folder)
    return found


def _below(base: Path, folder: Path | None) -> list[str]:
    """Return the path of ``folder`` below ``base``, joined by "/"; nothing where it is not."""
    if folder is None or base.resolve() not in folder.resolve().parents:
        return []
    return [folder.resolve().relative_to(base.resolve()).as_posix()]


def _inside(key: str, folders: Sequence[str]) -> bool:
    """Return whether a path is one of ``folders`` or lies in one."""
    return any(f"{key}/".startswith(f"{folder}/") for folder in folders)


def _faults(
    base: Path,
    below: dict[str, tuple[str, ...]],
    level: int,
    parts: dict[str, str],
    aside: Sequence[str],
) -> list[str]:
    """Return what keeps the folder from being a dataset; ``aside`` need not hold images."""
    loose = [key for key, folders in below.items() if len(folders) < level]
    names = {folders[level - 1] for folders in below.values() if len(folders) >= level}
    faults = []
    if loose:
        faults.append(f"images that are in no class folder: {some(loose)}")
    if empty := _empty(base, below, level + bool(parts), aside):
        faults.append(f"class folders without an image, to be filled or removed: {some(empty)}")
    if len(names) < 2:
        faults.append(f"{len(names)} class folders with images, expected one for each class")
    return faults


def _empty(
    base: Path, below: Mapping[str, tuple[str, ...]], depth: int, aside: Sequence[str]
) -> list[str]:
    """Return class folders, ``depth`` below ``base``, that hold no image in any depth.

    Those on the way to folders of ``aside``, or in them, are none.
    """
    full = {"/".join(PurePosixPath(key).parts[:depth]) for key in below}
    found = (path for path in base.glob("/".join("*" * depth)) if path.is_dir())
    there = [path.relative_to(base) for path in found]
    return sorted(
        key.as_posix()
        for key in there
        if not any(part.startswith(".") or part in PASSED_OVER for part in key.parts)
        and key.as_posix() not in full
        and not _inside(key.as_posix(), aside)
        and not any(_inside(one, [key.as_posix()]) for one in aside)
    )


def _notes(
    files: Files, parts: dict[str, str], below: dict[str, tuple[str, ...]], level: int
) -> list[str]:
    found = []
    if parts:
        count = Counter(parts.values())
        said = ", ".join(f"{part}/ ({n:,} images)" for part, n in count.items())
        found.append(f"folders on top are parts: {said}")
    if any(len(folders) > level for folders in below.values()):
        found.append("folders below the classes are not told apart")
    return [*found, *_merged(below, level), *passed_over(files)]


def _merged(below: Mapping[str, tuple[str, ...]], level: int) -> Iterator[str]:
    """Yield a sentence on class names that stand in several folders, which makes one class each."""
    above: defaultdict[str, set[str]] = defaultdict(set)
    for folders in below.values():
        above[folders[level - 1]].add("/".join(folders[: level - 1]))
    shared = {name: sorted(places) for name, places in above.items() if len(places) > 1}
    if shared:
        name, places = min(shared.items())
        yield (
            f"{len(shared):,} of {len(above):,} class names stand in several folders, as {name!r} "
            f"in {places[0]}/ and {places[1]}/, and are one class each. If they are different "
            "things, rename them and prepare again"
        )
