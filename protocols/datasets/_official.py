"""What the dataset files share: the publisher's lists to entries, checked against his counts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from protocols.errors import DataError

# Folders that programs leave beside pictures; files in them are nobody's images.
PASSED_OVER = frozenset(("@eaDir", "__MACOSX"))
Files = Mapping[str, Path]  # path below a tree, parts joined by "/": where the file is


class Entry(NamedTuple):
    """One image as the lists name it."""

    path: str  # below the tree
    source: Path
    label: int
    class_name: str
    part: str


class Listed(NamedTuple):
    """One line of a publisher's list; class ids are numbered in their order."""

    path: str  # relative to a folder that is yet to be found
    class_id: int
    class_name: str
    part: str


@dataclass(frozen=True)
class Address:
    """One file the publisher hands out.

    Attributes:
        file: its name.
        urls: where it can be had, the best first.
        checksum: ``md5:…`` or ``sha256:…`` in hex; empty where only the counts verify it.
    """

    file: str
    urls: tuple[str, ...]
    checksum: str


@dataclass(frozen=True)
class Published:
    """The counts a publisher states.

    Attributes:
        images: all images.
        classes: all classes.
        first_half: images in the first half of the class ids; None: not stated.
        parts: images and classes of each official part.
    """

    images: int
    classes: int
    first_half: int | None = None
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Official:
    """How a published dataset is recognised, verified and obtained.

    Attributes:
        layout: from the files of an unpacked tree to entries; raises DataError if they are
            not all there.
        published: what the result must amount to.
        archives: names (with wildcards) of the archives that are handed out.
        lists: names of the lists in them or beside them.
        by_hand: where a person gets them.
        addresses: what can be downloaded; none where no address is known to work.
    """

    layout: Callable[[Files], list[Entry]]
    published: Published
    archives: tuple[str, ...]
    lists: tuple[str, ...]
    by_hand: str
    addresses: tuple[Address, ...] = ()

    def entries(self, files: Files) -> list[Entry]:
        """Return the layout's entries; a list that does not parse is a DataError too."""
        try:
            return self.layout(files)
        except (LookupError, ValueError) as error:
            raise DataError(f"the lists are damaged or not the official ones: {error}") from error


def tree(folder: Path) -> dict[str, Path]:
    """Return all files below ``folder``, hidden ones aside; links to folders are followed."""
    found: dict[str, Path] = {}
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        about = os.stat(here)
        if (about.st_dev, about.st_ino) in seen:  # a link in a circle
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in PASSED_OVER)
        for name in sorted(n for n in names if not n.startswith(".")):
            path = Path(here, name)
            found[path.relative_to(folder).as_posix()] = path
    return found


def _raise(error: OSError) -> None:
    raise error


def together(files: Files, *names: str) -> str | None:
    """Return the shortest folder ("" or "a/b/") that holds all ``names``; None: no such."""
    first, *others = names
    folders = [key[: -len(first)] for key in files if key.endswith(first)]
    folders = [f for f in folders if not f or f.endswith("/")]
    return min(
        (f for f in folders if all(f + name in files for name in others)),
        key=lambda f: (f.count("/"), f),
        default=None,
    )


def lines(path: Path) -> list[str]:
    """Return the lines of a list that are not blank."""
    text = path.read_text("utf-8", "surrogateescape")
    return [line for line in text.split("\n") if line.strip()]


def entries(files: Files, listed: Sequence[Listed], near: str = "") -> list[Entry]:
    """Return an entry per line of a list, labels numbered 0, 1, ... in order of class id.

    Args:
        files: the tree.
        listed: the list.
        near: folder in which the list's paths are looked for first, then anywhere.

    Raises:
        DataError: images are missing, or the list is empty.
    """
    if not listed:
        raise DataError("the list names no image")
    tops: dict[str, list[str]] = {}
    for line in listed:
        tops.setdefault(line.path.partition("/")[0], []).append(line.path)
    before = {top: _prefix(files, paths, near) for top, paths in tops.items()}
    keys = [before[line.path.partition("/")[0]] + line.path for line in listed]
    gone = [key for key in keys if key not in files]
    if gone:
        raise DataError(f"{len(gone):,} of {len(keys):,} listed images are missing: {some(gone)}")
    twice = [key for key, times in Counter(keys).items() if times > 1]
    if twice:
        raise DataError(f"listed more than once: {some(twice)}")
    number = {c: label for label, c in enumerate(sorted({line.class_id for line in listed}))}
    return [
        Entry(key, files[key], number[line.class_id], line.class_name, line.part)
        for key, line in zip(keys, listed, strict=True)
    ]


def verify(found: Sequence[Entry], published: Published) -> None:
    """Raise DataError, with all that differs, unless the entries are as many as published."""
    half = published.classes // 2
    pairs = {"images": (len(found), published.images)}
    pairs["classes"] = (len({e.label for e in found}), published.classes)
    if published.first_half is not None:
        met = sum(entry.label < half for entry in found)
        pairs[f"images of the first {half:,} classes"] = (met, published.first_half)
    for part, (images, classes) in published.parts.items():
        inside = [entry.label for entry in found if entry.part == part]
        pairs[f"{part} images"] = (len(inside), images)
        pairs[f"{part} classes"] = (len(set(inside)), classes)
    wrong = [f"{met:,} {what} (published: {n:,})" for what, (met, n) in pairs.items() if met != n]
    if wrong:
        raise DataError(f"not the published dataset, or not all of it: met {', '.join(wrong)}")


def some(names: Sequence[str]) -> str:
    """Return the first names of a long list, printable."""
    text = ", ".join(repr(name) for name in names[:3])
    return text + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _prefix(files: Files, paths: Sequence[str], near: str) -> str:
    """Return what stands before ``paths`` in the tree, judged by three of them."""
    for path in (paths[0], paths[len(paths) // 2], paths[-1]):
        if near + path in files:
            return near
        ends = [key[: -len(path)] for key in files if key.endswith("/" + path) or key == path]
        if ends:
            return min(ends, key=lambda end: (end.count("/"), end))
    return near
