"""All that is wrong or odd about a prepared dataset, in one list.

Near duplicates: two images whose 8 x 8 gradient signs differ in few bits and whose 12 x 12 RGB
thumbnails are nearly equal, one among the training classes, the other among the test classes,
or one a query, the other in the gallery.
It finds copies that were saved or scaled anew. It does not find mirrored ones, and of cropped
ones only those that lost a few per cent.
"""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.intake.unpack import OnProgress, quiet
from protocols import manifest
from protocols.decoding import AND_PREPARE, decode, read_file, shown
from protocols.errors import DataError
from protocols.manifest import Row
from protocols.names import to_field
from protocols.partition import Rule, labels_of, on_test_side

PROBLEMS = {
    "unreadable": "missing, changed, truncated or no image: no job can run",
    "leak": "the same file among training and test classes",
    "near leak": "nearly the same picture among training and test classes",
    "query copy": "the same file as query and in the gallery: it finds itself",
    "near query copy": "nearly the same picture as query and in the gallery",
    "two labels": "the same file in several classes",
}
NOTES = {
    "small class": "one image: never a correct answer to a query",
    "same class": "the same file twice in one class",
    "grey": "read as RGB with equal channels",
    "cmyk": "converted to RGB without its colour profile",
    "palette": "converted to RGB",
    "16-bit": "scaled to 8 bits a channel",
    "alpha": "laid on white",
    "rotated": "turned upright by its EXIF note",
    "frames": "the first frame is read",
}
NEAR_BITS = 5  # of 64
NEAR_LEVELS = 5.0  # of 255: mean difference of the thumbnails
_FLAT = 4.0  # of 255: with less contrast the signs of gradients mean nothing
_SIDE = 12
_CHUNK = 512  # images handed to the decoding threads at once
_PAIRS = 1 << 21  # compared at once by their bits
_THUMBS = 1 << 16  # compared at once by their thumbnails


@dataclass(frozen=True)
class Finding:
    """One thing about one file or class: a kind of PROBLEMS or NOTES."""

    kind: str
    path: str
    detail: str


@dataclass(frozen=True)
class Look:
    """What one image looks like; thumb is None if it cannot be read."""

    findings: list[Finding]
    bits: int = 0  # signs of 64 gradients
    thumb: NDArray[np.uint8] | None = None  # (12, 12, 3)
    flat: bool = True


def check(folder: Path, name: str, progress: OnProgress = quiet) -> list[Finding]:
    """Return everything found about the dataset prepared in ``folder``, by kind and path.

    Raises:
        DataError: it is not prepared, or its manifest is damaged.
    """
    header, rows = manifest.read(folder / manifest.FILE, name)
    with warnings.catch_warnings(action="ignore"):  # what matters of them becomes a finding
        looks = list(_looks(folder, rows, progress))
    tests = test_side(rows, header.digest, own=":" in name)
    findings = [finding for look in looks for finding in look.findings]
    findings += _small(rows) + _exact(rows, tests)
    query, gallery = (np.array([row.part == part for row in rows]) for part in ("query", "gallery"))
    findings += _near(rows, looks, ~tests, tests, "near leak")
    findings += _near(rows, looks, gallery, query, "near query copy")
    order = {kind: number for number, kind in enumerate((*PROBLEMS, *NOTES))}
    return sorted(findings, key=lambda f: (order[f.kind], f.path, f.detail))


def test_side(rows: Sequence[Row], digest: str, *, own: bool) -> NDArray[np.bool_]:
    """Return for each row whether it is on the test side, as a study would have it."""
    parts = np.array([row.part for row in rows]) if rows[0].part else None
    labels = np.array([row.label for row in rows], np.int64)
    published: Rule = "publisher" if parts is not None and "query" in parts else "halves"
    rule: Rule = "own" if own else published
    return on_test_side(labels_of(labels, int(labels.max()) + 1, parts, rule, digest))


def to_csv(findings: Sequence[Finding]) -> bytes:
    """Return all findings as a table in CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(("kind", "path", "detail"))
    writer.writerows((f.kind, to_field(f.path), to_field(f.detail)) for f in findings)
    return text.getvalue().encode()


def _looks(folder: Path, rows: Sequence[Row], progress: OnProgress) -> Iterator[Look]:
    waiting, done = iter(rows), 0
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # PIL decodes without the GIL
        while chunk := list(islice(waiting, _CHUNK)):
            yield from pool.map(lambda row: look(folder, row), chunk)
            done += len(chunk)
            progress("looking at images", done, len(rows))


def look(folder: Path, row: Row) -> Look:
    """Read one image and return what is odd about it, and what it looks like."""
    path = folder / row.path
    try:
        image = decode(read_file(path, row.sha256), shown(path), AND_PREPARE)
    except DataError as error:
        reason = str(error).removeprefix(f"{shown(path)}: ")
        return Look([Finding("unreadable", row.path, reason)])
    height, width, _ = image.pixels.shape
    odd = [Finding(kind, row.path, f"{width} x {height} px") for kind in image.changes]
    picture = Image.fromarray(image.pixels)
    size = (9, 8)
    grey = np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), np.int16)
    signs = np.packbits(grey[:, 1:] > grey[:, :-1])
    thumb = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX))
    return Look(odd, int.from_bytes(signs.tobytes()), thumb, bool(grey.std() < _FLAT))


def _small(rows: Sequence[Row]) -> list[Finding]:
    sizes = Counter(row.label for row in rows)
    return [
        Finding("small class", row.path, f"class {row.label} {row.class_name!r}")
        for row in rows
        if sizes[row.label] == 1
    ]


def _exact(rows: Sequence[Row], tests: NDArray[np.bool_]) -> list[Finding]:
    groups = defaultdict(list)
    for number, row in enumerate(rows):
        groups[row.sha256].append(number)
    copies = []
    for numbers in groups.values():
        first, *others = numbers
        for other in others:
            if {rows[first].part, rows[other].part} == {"query", "gallery"}:
                continue  # told below, beside the other queries of this file
            kind = "same class" if rows[first].label == rows[other].label else "two labels"
            kind = "leak" if tests[first] != tests[other] else kind
            copies.append(Finding(kind, rows[other].path, _as(rows[first])))
        in_gallery = next((rows[n] for n in numbers if rows[n].part == "gallery"), None)
        if in_gallery is not None:
            queries = (rows[n] for n in numbers if rows[n].part == "query")
            copies += [Finding("query copy", row.path, _as(in_gallery)) for row in queries]
    return copies


def _as(row: Row) -> str:
    return f"as {shown(Path(row.path))} (class {row.label} {row.class_name!r})"


def _near(
    rows: Sequence[Row],
    looks: Sequence[Look],
    known: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    kind: str,
) -> list[Finding]:
    """Return for each image that is ``asked`` the ``known`` one that is nearest, if one is near."""
    if not asked.any():
        return []
    usable = np.array([seen.thumb is not None and not seen.flat for seen in looks], bool)
    left_rows, right_rows = np.flatnonzero(usable & known), np.flatnonzero(usable & asked)
    bits = np.array([seen.bits for seen in looks], np.uint64)
    blank = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    thumbs = np.stack([blank if seen.thumb is None else seen.thumb for seen in looks])
    best: dict[int, tuple[float, int]] = {}
    for left, right in near_pairs(bits[left_rows], bits[right_rows], NEAR_BITS):
        for start in range(0, len(left), _THUMBS):
            a = left_rows[left[start : start + _THUMBS]]
            b = right_rows[right[start : start + _THUMBS]]
            apart = np.abs(thumbs[a].astype(np.int16) - thumbs[b]).mean(axis=(1, 2, 3))
            for near in np.flatnonzero(apart <= NEAR_LEVELS):
                mine, theirs = int(a[near]), int(b[near])
                if rows[mine].sha256 != rows[theirs].sha256:
                    met = (float(apart[near]), mine)
                    best[theirs] = min(best.get(theirs, met), met)
    return [
        Finding(kind, rows[b].path, f"{_as(rows[a])}, {levels:.1f} grey levels apart")
        for b, (levels, a) in sorted(best.items())
    ]


def near_pairs(
    left: NDArray[np.uint64], right: NDArray[np.uint64], most: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of positions whose 64-bit values differ in at most ``most`` bits, each once.

    Cut into ``most`` + 1 bands, two such values have a band in common: only values that share
    one are compared. A pair is yielded for the first band that it shares.
    """
    edges = np.linspace(0, 64, most + 2).astype(np.uint64)
    masks = [(1 << int(b)) - (1 << int(a)) for a, b in pairwise(edges)]
    for band, mask in enumerate(masks):
        keys, others = left & np.uint64(mask), right & np.uint64(mask)
        order = np.argsort(others, kind="stable")
        start = np.searchsorted(others[order], keys, "left")
        count = np.searchsorted(others[order], keys, "right") - start
        ends = np.cumsum(count)
        for low, high in _slices(ends):
            mine = np.repeat(np.arange(low, high), count[low:high])
            before = np.repeat(ends[low:high] - count[low:high], count[low:high])
            first = ends[low] - count[low]
            theirs = order[np.arange(first, ends[high - 1]) - before + start[mine]]
            differs = left[mine] ^ right[theirs]
            keep = _ones(differs) <= most
            for earlier in masks[:band]:
                keep &= (differs & np.uint64(earlier)) != 0
            if keep.any():
                yield mine[keep], theirs[keep]


def _slices(ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows that have about _PAIRS pairs, so that memory stays bounded."""
    low = 0
    while low < len(ends):
        done = ends[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(ends, done + _PAIRS, "right")))
        yield low, high
        low = high


def _ones(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return how many bits of each value are set; numpy 1 has no function for it."""
    counts: NDArray[np.uint8] = _ONES[values.view(np.uint16).reshape(-1, 4)].sum(
        axis=1, dtype=np.uint8
    )
    return counts


_ONES = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)
