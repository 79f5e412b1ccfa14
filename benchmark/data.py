"""From a dataset to what a job may see. Test images come out of one function only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.store import PixelStore, open_store, store_key
from protocols import discovery
from protocols.dataset import Dataset
from protocols.errors import InvalidInputError
from protocols.protocol import Protocol
from protocols.splits import RULES, Fold


@dataclass(frozen=True)
class DataSource:
    """Where a worker finds a dataset: its name, its root, and the store of decoded images."""

    name: str
    digest: str
    root: Path | None
    cache: Path


@dataclass(frozen=True)
class Split:
    """Some of a dataset's images.

    Attributes:
        store: all decoded images of the dataset.
        index: (n,) which of them.
        labels: (n,) class ids of the dataset.
        query: (n,) which of them are queries and not gallery, where a publisher keeps the two
            apart; None where every image is both.
    """

    store: PixelStore
    index: NDArray[np.int64]
    labels: NDArray[np.int64]
    query: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.index)


def open_fold(source: DataSource, protocol: Protocol, fold: int) -> tuple[Split, Split]:
    """Return the fold's training and validation images. Test images are in neither."""
    part = class_folds(_dataset(source), protocol)[fold]
    return _split(source, protocol, part.train), _split(source, protocol, part.validation)


def open_test(source: DataSource, protocol: Protocol) -> Split:
    """Return the test images. Only final runs call this, after the choice is written down."""
    test = _split(source, protocol, class_folds(_dataset(source), protocol)[0].test)
    parts = _dataset(source).parts
    if parts is None or "query" not in parts:
        return test
    return replace(test, query=parts[test.index] == "query")


def class_folds(dataset: Dataset, protocol: Protocol) -> list[Fold]:
    """Return the protocol's class partitions of a dataset.

    The first half of the classes trains and validates. A dataset whose publisher keeps queries
    and gallery apart (In-Shop) uses its own parts in place of halves.

    Raises:
        InvalidInputError: an unknown fold rule, or too few classes for it.
    """
    if protocol.fold_rule not in RULES:
        raise InvalidInputError(
            f"fold rule {protocol.fold_rule!r}: expected one of {', '.join(sorted(RULES))}"
        )
    rule = RULES[protocol.fold_rule]
    if dataset.parts is None or "query" not in dataset.parts:
        return rule(len(dataset.class_names), protocol.folds)
    seen = np.unique(dataset.labels[dataset.parts == "train"])
    test = np.setdiff1d(dataset.labels, seen)
    blocks = rule(2 * len(seen), protocol.folds)
    return [Fold(seen[block.train], seen[block.validation], test) for block in blocks]


def prepare(source: DataSource, protocol: Protocol) -> None:
    """Load, verify and decode a dataset once, before any worker needs it."""
    _store(source, protocol.image.resize_px)


def _split(source: DataSource, protocol: Protocol, classes: NDArray[np.int64]) -> Split:
    labels = _dataset(source).labels
    index = np.flatnonzero(np.isin(labels, classes))
    return Split(_store(source, protocol.image.resize_px), index, labels[index])


@lru_cache(maxsize=4)
def _dataset(source: DataSource) -> Dataset:
    dataset: Dataset = discovery.load("dataset", source.name).load(source.root)
    return dataset


@lru_cache(maxsize=4)
def _store(source: DataSource, resize_px: int) -> PixelStore:
    key = store_key(source.name, source.digest)
    return open_store(key, resize_px, source.cache, lambda: _dataset(source).images)
