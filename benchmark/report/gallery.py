"""Which queries a method gets right and wrong, as thumbnails, and which classes gain or lose.

Pixels come from the decoded store in the output folder; nothing is decoded or scored again.
"""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.report.queries import Queries, Reader, extremes
from benchmark.study.datasets import store_key
from benchmark.study.pixels import PixelStore, open_store
from benchmark.study.records import RunRecord
from benchmark.study.sides import labels_path
from protocols.dataset import Images
from protocols.discovery import Registry
from protocols.errors import BenchmarkError

SHOWN = 5  # worst and best queries, neighbours of each, classes that gain and lose
DISAGREEMENTS = 3  # queries on each side
SIDE = 48  # pixels of a thumbnail
COLOURS = 96
BUDGET = 2_200_000  # characters of pictures in a report


@dataclass(frozen=True)
class Thumb:
    """A picture; ``kind`` is ``query``, ``right`` or ``wrong``."""

    src: str
    name: str
    kind: str


@dataclass(frozen=True)
class Retrieved:
    """What a method finds for a query: its MAP@R in per cent and the nearest images."""

    method: str
    value: float
    thumbs: tuple[Thumb, ...]


@dataclass(frozen=True)
class Card:
    """A query and the answers of one or two methods."""

    query: Thumb
    answers: tuple[Retrieved, ...]


@dataclass(frozen=True)
class Sheet:
    """The worst and best queries of a method, or why there are none."""

    method: str
    seed: int = 0
    worst: tuple[Card, ...] = ()
    best: tuple[Card, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class ClassDelta:
    """A class's mean MAP@R under two methods, in per cent."""

    name: str
    queries: int
    first: float
    second: float

    @property
    def difference(self) -> float:
        """Return the second's minus the first's, in points."""
        return self.second - self.first


@dataclass(frozen=True)
class Disagreement:
    """Where two methods differ: single queries as pictures, and whole classes.

    Attributes:
        first, second: names; a gain is the second's.
        gains, losses: queries, of one ``seed``.
        classes: those that gain most, then those that lose most, means over ``seeds`` seeds.
    """

    first: str
    second: str
    seed: int
    seeds: int
    gains: tuple[Card, ...]
    losses: tuple[Card, ...]
    classes: tuple[ClassDelta, ...]


@dataclass(frozen=True)
class Gallery:
    """The pictures of one dataset, trunk and recipe; ``note`` says why there are none."""

    note: str = ""
    comparisons: tuple[Disagreement, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """Return the note as a sentence."""
        return f"{self.note[:1].upper()}{self.note[1:]}."


@dataclass
class Album:
    """Thumbnails of one dataset; ``spent`` counts the characters handed out."""

    store: PixelStore
    names: Sequence[str]
    allowance: int
    spent: int = 0
    _sources: dict[int, str] = field(default_factory=dict)

    def card(self, position: int, answers: Sequence[tuple[str, Queries]]) -> Card:
        """Return the query at ``position`` with what each method finds for it."""
        first = answers[0][1]
        label = int(first.labels[position])
        retrieved = []
        for method, queries in answers:
            near = queries.neighbours[position, :SHOWN]
            kinds = ["right" if queries.labels[n] == label else "wrong" for n in near]
            thumbs = [self._thumb(queries, int(n), k) for n, k in zip(near, kinds, strict=True)]
            value = 100 * float(queries.map_at_r[position])
            retrieved.append(Retrieved(method, value, tuple(thumbs)))
        return Card(self._thumb(first, position, "query"), tuple(retrieved))

    def _thumb(self, queries: Queries, position: int, kind: str) -> Thumb:
        image = int(queries.index[position])
        if image not in self._sources:
            pixels, _ = self.store.batch(np.array([image]))
            self._sources[image] = thumbnail(pixels[0])
        source = self._sources[image]
        self.spent += len(source)
        return Thumb(source, class_name(self.names, int(queries.labels[position])), kind)


def open_album(
    out: Path, dataset: str, digest: str, resize_px: int, names: Sequence[str], allowance: int
) -> Album | str:
    """Return the pictures of a dataset, or in one line why there are none."""
    folder, key = out / "cache", store_key(dataset, digest)
    path = folder / f"{key}-{resize_px}px.u8"
    if path.parent != folder or not path.is_file():
        return f"no pictures: the decoded images of {dataset} are not in the output folder"
    try:
        store = open_store(key, resize_px, folder, _no_images)
    except (OSError, ValueError):
        return f"no pictures: the decoded images of {dataset} cannot be read"
    return Album(store, names, allowance)


def class_names(out: Path, dataset: str, digest: str) -> Sequence[str]:
    """Return the class names of a dataset with this digest, empty where they cannot be had.

    They lie beside the decoded images; own images are opened by a path that the study does not
    keep, so theirs are found only there. Those of a dataset that ships come with the code.
    """
    folder = out / "cache"
    path = labels_path(folder, dataset, digest)
    try:
        with np.load(path, allow_pickle=False) as file:
            held: list[str] = file["names"].tolist()
            return held
    # A cache that is gone or damaged: a run makes it anew.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return _shipped_names(dataset, digest)


def _shipped_names(dataset: str, digest: str) -> Sequence[str]:
    try:
        module = _registry().load("dataset", dataset)
        if module.digest(None) != digest:
            return ()
        names: Sequence[str] = module.load(None).class_names
    except (BenchmarkError, OSError):
        return ()
    return names


@cache
def _registry() -> Registry:
    """Return the names known without plugins; listing what is installed takes a while."""
    return Registry()


def class_name(names: Sequence[str], label: int) -> str:
    """Return a class's name, or its number where names are not at hand."""
    return str(names[label]) if label < len(names) else f"class {label}"


def build(
    out: Path,
    album: Album | str,
    names: Sequence[str],
    methods: Sequence[tuple[str, Sequence[RunRecord]]],
    pairs: Sequence[tuple[str, str]],
) -> Gallery:
    """Return the gallery of one dataset, trunk and recipe.

    Args:
        out: the output folder.
        album: the dataset's pictures, or why there are none.
        names: of the classes, by label; may be empty.
        methods: name and finished runs of each, best first.
        pairs: methods to compare, (first, second).
    """
    runs, reader = dict(methods), Reader(out, len({name for pair in pairs for name in pair}))
    comparisons = []
    for first, second in pairs:
        by_seed = list(reader.both(runs.get(first, ()), runs.get(second, ())))
        if by_seed:
            comparisons.append(_compare(album, names, (first, second), by_seed))
    if isinstance(album, str):
        return Gallery(album, tuple(comparisons))
    sheets, left_out = [], []
    for name, done in methods:
        if album.spent < album.allowance:
            sheets.append(_sheet(reader, album, name, done))
        else:
            left_out.append(name)
    return Gallery("", tuple(comparisons), tuple(sheets), tuple(left_out))


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Return the middle square of an (H, W, 3) image as a small PNG in a data address."""
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = Image.fromarray(pixels[top : top + side, left : left + side])
    if side > SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _no_images() -> Images:
    raise ValueError("a report decodes no images")


def _sheet(reader: Reader, album: Album, name: str, runs: Sequence[RunRecord]) -> Sheet:
    queries = reader.read(runs[0]) if runs else "no finished run"
    if isinstance(queries, str):
        return Sheet(name, note=queries)
    low = extremes(queries.map_at_r, queries.labels, SHOWN)
    high = extremes(-queries.map_at_r, queries.labels, SHOWN)
    worst, best = ([album.card(p, [(name, queries)]) for p in side] for side in (low, high))
    return Sheet(name, queries.seed, tuple(worst), tuple(best))


def _compare(
    album: Album | str,
    names: Sequence[str],
    pair: tuple[str, str],
    by_seed: Sequence[tuple[Queries, Queries]],
) -> Disagreement:
    """Return a comparison; its pictures are of the first seed, its classes of all seeds."""
    (first, second), (before, after) = pair, by_seed[0]
    cards: list[tuple[Card, ...]] = [(), ()]
    if not isinstance(album, str) and album.spent < album.allowance:
        gap = after.map_at_r - before.map_at_r
        for side, sign in enumerate((1, -1)):
            most = extremes(-sign * gap, after.labels, DISAGREEMENTS)
            both = [(first, before), (second, after)]
            cards[side] = tuple(album.card(p, both) for p in most if sign * gap[p] > 0)
    classes = _class_deltas(by_seed, names)
    return Disagreement(first, second, after.seed, len(by_seed), cards[0], cards[1], classes)


def _class_deltas(
    pairs: Sequence[tuple[Queries, Queries]], names: Sequence[str]
) -> tuple[ClassDelta, ...]:
    """Return the classes that gain most, then those that lose most, means over the seeds."""
    before, after = (np.mean([pair[k].map_at_r for pair in pairs], axis=0) for k in (0, 1))
    kept = ~np.isnan(before + after)
    classes, codes, counts = np.unique(
        pairs[0][0].labels[kept], return_inverse=True, return_counts=True
    )
    base, best = (100 * np.bincount(codes, v[kept]) / counts for v in (before, after))
    order = np.lexsort((classes, base - best))  # largest gain first
    up = [k for k in order if best[k] > base[k]][:SHOWN]
    down = [k for k in order[::-1] if best[k] < base[k]][:SHOWN]
    return tuple(
        ClassDelta(
            class_name(names, int(classes[k])), int(counts[k]), float(base[k]), float(best[k])
        )
        for k in [*up, *down]
    )
