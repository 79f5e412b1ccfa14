"""From a dataset to what a job may see. Test images come out of one function only."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.study import checksums
from benchmark.study.datasets import store_key
from benchmark.study.pixels import PixelStore, open_store, sizes_path, store_path
from benchmark.study.sides import SUM_DIGITS, labels_path, read_labels
from protocols import discovery
from protocols.dataset import RECALL_AT, Dataset
from protocols.errors import InvalidInputError
from protocols.partition import PARTS, TESTS, Labels, folds_of, labels_of
from protocols.protocol import Protocol
from protocols.splits import RULES, Fold


@dataclass(frozen=True)
class DataSource:
    """Where a worker finds a dataset: its name, its root, and the folder of what is prepared.

    ``name`` opens it; ``title`` is what records call it, where that is another word.

    After :func:`prepare` the files in ``cache`` are all that a job reads: a machine that has
    only them needs neither the archive nor the images.

    Attributes:
        recall_at: the k of the recalls that are reported on its test images.
    """

    name: str
    digest: str
    root: Path | None
    cache: Path
    title: str = ""
    recall_at: tuple[int, ...] = RECALL_AT

    def files(self, protocol: Protocol) -> tuple[Path, ...]:
        """Return the prepared files in ``cache``: pixels, sizes and labels."""
        pixels = store_path(self.cache, self.key, protocol.image.resize_px)
        return (pixels, sizes_path(pixels), self.labels_path)

    def moved(self, protocol: Protocol, moved_path: Callable[[Path], Path]) -> DataSource:
        """Return the source for a machine where each file lies at ``moved_path(file)``."""
        return replace(self, root=None, cache=moved_path(self.files(protocol)[0]).parent)

    @property
    def key(self) -> str:
        """Return what the names of the prepared files begin with."""
        return store_key(self.title or self.name, self.digest)

    @property
    def labels_path(self) -> Path:
        """Return the file of the labels, whatever the size of the images."""
        return labels_path(self.cache, self.title or self.name, self.digest)


@dataclass(frozen=True)
class Split:
    """Some of a dataset's images.

    Attributes:
        store: the decoded images that are open with this split; all others are sealed in it.
        index: (n,) which of the dataset's images.
        labels: (n,) class ids of the dataset.
        query: (n,) which of them are queries and not gallery, where a publisher keeps the two
            apart; None where every image is both.
        recall_at: the k of the recalls to report; empty except for the test split.
        made: what was made of the images on a device, by the device's name.
    """

    store: PixelStore
    index: NDArray[np.int64]
    labels: NDArray[np.int64]
    query: NDArray[np.bool_] | None = None
    recall_at: tuple[int, ...] = ()
    made: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.index)


def open_fold(source: DataSource, protocol: Protocol, fold: int) -> tuple[Split, Split]:
    """Return the fold's training and validation images. Test images are in neither.

    The process holds nothing of other images afterwards: no pixels, sizes or labels.
    """
    known = _labels(source)
    part = class_folds(known, protocol)[fold]
    train = known.rows(part.train, ("train",))
    validation = known.rows(part.validation, ("val",) if known.has("val") else ("train",))
    store = _store(source, protocol, np.concatenate([train, validation]))
    return tuple(Split(store, index, known.labels[index]) for index in (train, validation))  # type: ignore[return-value]


def open_test(source: DataSource, protocol: Protocol) -> Split:
    """Return the test images. Only final runs call this, after the choice is written down."""
    known = _labels(source)
    index = known.rows(class_folds(known, protocol)[0].test, TESTS)
    query = None
    if known.parts is not None and known.has("query"):
        query = known.parts[index] == "query"
    store = _store(source, protocol, index)
    return Split(store, index, known.labels[index], query, source.recall_at)


def count_tests(source: DataSource, protocol: Protocol) -> int:
    """Return how many test images there are, for a plan's time; none is opened."""
    known = _labels(source)
    return len(known.rows(class_folds(known, protocol)[0].test, TESTS))


def count_images(source: DataSource) -> int:
    """Return how many images the dataset has in all its parts; none is opened."""
    return len(_labels(source).labels)


def class_folds(known: Labels, protocol: Protocol) -> list[Fold]:
    """Return the protocol's class partitions of a dataset, see :mod:`protocols.partition`.

    Raises:
        InvalidInputError: an unknown fold rule, too few classes for it, or parts that make none.
    """
    if protocol.fold_rule not in RULES:
        raise InvalidInputError(
            f"fold rule {protocol.fold_rule!r}: expected one of {', '.join(sorted(RULES))}"
        )
    return folds_of(known, RULES[protocol.fold_rule], protocol.folds)


def _holds(path: Path, names: Sequence[str]) -> bool:
    """Return whether a labels file has all of ``names``; also where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return set(names) <= set(file.files)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return True


def prepare(source: DataSource, protocol: Protocol) -> list[Path]:
    """Load, verify and decode a dataset once, before any worker needs it.

    What was prepared earlier is read once, against its checksums.

    Returns:
        The files that were damaged, or had no checksum, and were made anew.

    Raises:
        InvalidInputError: too few classes for the folds, or a validation fold or the test part
            in which no query has another image of its class to find.
    """
    # Opened also where all is decoded: an edited manifest must not go unnoticed.
    dataset = _dataset(source)
    damaged = checksums.discard_damaged(source.files(protocol))
    told = {"groups": dataset.class_groups, "sums": dataset.sums}
    if not _holds(source.labels_path, [name for name, found in told.items() if found is not None]):
        source.labels_path.unlink(missing_ok=True)  # of an earlier version
    known = _labels(source, lambda: dataset)
    # an error here, not later in a worker
    _check_matches(source.title or source.name, known, protocol)
    _store(source, protocol, None, lambda: dataset)
    return damaged


def _check_matches(name: str, known: Labels, protocol: Protocol) -> None:
    """Raise InvalidInputError where no query has a hit to find, so that no metric exists."""
    folds = class_folds(known, protocol)
    validates = ("val",) if known.has("val") else ("train",)
    parts = [
        (f"the validation classes of fold {number}", fold.validation, _counts(known, validates))
        for number, fold in enumerate(folds)
    ]
    reachable = _counts(known, TESTS)
    if known.has("query"):  # a hit is in the other part
        reachable = 1 + np.minimum(_counts(known, ("query",)), _counts(known, ("gallery",)))
    for part, classes, most in [*parts, ("the test classes", folds[0].test, reachable)]:
        if not (most[classes] > 1).any():
            images = len(known.rows(classes, PARTS))
            raise InvalidInputError(
                f"dataset {name!r}: {part} hold {images} images of {len(classes)} "
                "classes, none with another image of its class to find: nothing can be measured. "
                "Add images to these classes, or leave out classes of one image"
            )


def _counts(known: Labels, parts: tuple[str, ...]) -> NDArray[np.int64]:
    """Return (classes,) how many images of ``parts`` each class has."""
    index = known.rows(np.arange(known.classes), parts)
    return np.bincount(known.labels[index], minlength=known.classes)


def _dataset(source: DataSource) -> Dataset:
    dataset: Dataset = discovery.load("dataset", source.name).load(source.root)
    return dataset


def _labels(source: DataSource, opened: Callable[[], Dataset] | None = None) -> Labels:
    """Return the labels beside the store; the dataset is opened where they are not there yet.

    The process does not keep them: a search must not see the labels of test classes.
    """
    found = read_labels(source.labels_path)
    if found is None:
        dataset = opened() if opened else _dataset(source)
        classes = len(dataset.class_names)
        found = labels_of(dataset.labels, classes, dataset.parts, dataset.rule, dataset.digest)
        packed = _packed(found, dataset.class_names, dataset.class_groups, dataset.sums)
        checksums.write_signed(source.labels_path, packed)
    return found


def _store(
    source: DataSource,
    protocol: Protocol,
    only: NDArray[np.int64] | None,
    opened: Callable[[], Dataset] | None = None,
) -> PixelStore:
    """Return the decoded images, sealed but for ``only``; decoded first where they are missing."""
    load = opened or (lambda: _dataset(source))
    size = protocol.image.resize_px
    return open_store(source.key, size, source.cache, lambda: load().images, only)


def _packed(
    labels: Labels,
    names: Sequence[str],
    groups: Sequence[str] | None = None,
    sums: Sequence[str] | None = None,
) -> bytes:
    """Return the file of the labels; its names are for the report and what methods are told.

    Of the images' checksums it has the first digits, which tell copies.
    """
    arrays = {"labels": labels.labels, "order": labels.order, "names": np.array(names)}
    if groups is not None:
        arrays["groups"] = np.array(groups)
    if sums is not None:
        arrays["sums"] = np.array([found[:SUM_DIGITS] for found in sums])
    if labels.parts is not None:
        arrays["parts"] = labels.parts
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
