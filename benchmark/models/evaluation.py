"""Embeddings of any origin, scored as a study scores its own, with the same class bootstrap."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.models.images import Item, cropped
from benchmark.models.model import Model, embed_all
from benchmark.statistics import bootstrap
from benchmark.statistics.bootstrap import sum_by_class
from benchmark.study import checksums
from benchmark.study.datasets import identity
from benchmark.study.folder import CellKey, Study
from benchmark.study.references import Reference, digest_of
from benchmark.training import evaluate
from benchmark.training.splits import Split
from protocols import metrics
from protocols.dataset import RECALL_AT
from protocols.datasets._official import some
from protocols.datasets._own import check_copies
from protocols.datasets.csv import role_faults
from protocols.decoding import shown
from protocols.errors import DataError, InvalidInputError
from protocols.ranking import Ranking
from protocols.verification import verification

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """What embeddings score.

    Attributes:
        metrics: means over queries, and what thresholds do for pairs; fractions.
        low, high: ends of the 95 % interval over test classes, by metric; empty where there are
            too few classes.
        classes: with queries that count.
        queries: that count; ``excluded`` ones are not among them.
        labels, counts, sums: of each such class, as a study keeps them.
    """

    metrics: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    classes: int
    queries: int
    excluded: int
    ties: int
    labels: list[int]
    counts: list[float]
    sums: dict[str, list[float]]


def check_as_many(rows: NDArray[np.float32], items: Sequence[Item]) -> None:
    """Raise InvalidInputError unless there is a label for each embedding."""
    if len(rows) != len(items):
        raise InvalidInputError(f"{len(rows)} embeddings for {len(items)} labels: expected as many")


def check_roles(items: Sequence[Item]) -> None:
    """Raise DataError where ``data prepare`` would not take images with these parts.

    That is an image that is given twice, by its path or by a link, as query and in the gallery,
    or without a part where others have one; and a query that lies in the gallery as a copy.
    Copies are looked for among files that are there: embeddings may have come without their
    images.
    """
    paths = [Path(os.path.realpath(item.path)) for item in items]  # a link is the same image
    faults = role_faults(paths, [item.part for item in items])
    met = [f"{what}: {some(which)}" for what, which in faults.items() if which]
    if met:
        raise DataError(f"{'; '.join(met)}. Give each image once, and a part to all or none")
    try:
        alike = _of_one_size([item for item in items if item.part in ("query", "gallery")])
        sums = [checksums.of_file(item.path) for item in alike]
    except OSError as error:
        raise DataError(f"{shown(Path(error.filename))}: {error.strerror}") from error
    check_copies([shown(item.path) for item in alike], [item.part for item in alike], sums)


def _of_one_size(items: Sequence[Item]) -> list[Item]:
    """Return the images whose files are there and as long as another: only they can be copies."""
    there = [item for item in items if item.path.is_file()]
    sizes = [item.path.stat().st_size for item in there]
    times = Counter(sizes)
    return [item for item, size in zip(there, sizes, strict=True) if times[size] > 1]


def score_items(rows: NDArray[np.float32], items: Sequence[Item], *, by_angle: bool) -> Scored:
    """Return what embeddings (N, D) of labelled images score among themselves.

    Where some are ``query`` and others ``gallery``, queries are searched in the gallery alone.

    Raises:
        InvalidInputError: other rows than images, images without a label, unknown parts.
    """
    check_as_many(rows, items)
    bare = [item for item in items if not item.label]
    if bare:
        raise InvalidInputError(
            f"{len(bare)} of {len(items)} images have no label ({bare[0].path}): give a CSV with "
            "path,label, or a folder with one folder for each class"
        )
    names = sorted({item.label for item in items})
    number = {name: at for at, name in enumerate(names)}
    labels = np.array([number[item.label] for item in items])
    parts = {item.part for item in items}
    if not parts & {"query", "gallery"}:
        found = metrics.per_query(rows, labels, normalize=by_angle, recall_at=RECALL_AT)
        pairs = verification(rows, labels, normalize=by_angle)
        return _scored(found, pairs, labels, "labels")
    if parts != {"query", "gallery"}:
        raise InvalidInputError(
            f"parts {', '.join(sorted(parts))}: expected query and gallery for every image, or none"
        )
    query = np.array([item.part == "query" for item in items])
    gallery = (rows[~query], labels[~query])
    found = metrics.per_query(
        rows[query], labels[query], gallery=gallery, normalize=by_angle, recall_at=RECALL_AT
    )
    pairs = verification(rows[query], labels[query], gallery=gallery, normalize=by_angle)
    return _scored(found, pairs, labels[query], "labels")


def embed_split(model: Model, test: Split) -> NDArray[np.float32]:
    """Return (N, D) embeddings of a study's decoded test images.

    They are stored as small as the study needs them: a model that wants larger images sees
    enlarged ones.
    """
    store, told = test.store, model.description
    return embed_all(model, (cropped(store.image(int(n)), told) for n in test.index))


def score_split(rows: NDArray[np.float32], test: Split, dataset: str, *, by_angle: bool) -> Scored:
    """Return what embeddings (N, D) of a study's test images score, as its runs do."""
    rule: Ranking = "angle" if by_angle else "distance"
    found = evaluate.rank(rows, test, ranking=rule)
    pairs = evaluate.verify_pairs(rows, test, ranking=rule)
    asked = test.labels if test.query is None else test.labels[test.query]
    return _scored(found, pairs, asked, dataset)


def check_same_images(items: Sequence[Item], test: Split, names: Sequence[str]) -> Split:
    """Return ``test`` in the order of ``items``, judged by their labels and parts.

    Metrics ask for the classes of rows alone, so a list stands for the test images if it has as
    many of each class and part. Labels are the dataset's class names or numbers.

    Raises:
        DataError: it has not.
    """
    number = {str(name): label for label, name in enumerate(names)}
    if any(item.label not in number for item in items):
        number = {str(label): label for label in np.unique(test.labels).tolist()}
    odd = [item.label for item in items if item.label not in number]
    if odd:
        raise DataError(f"label {odd[0]!r} is no class of the dataset, by name or by number")
    labels = np.array([number[item.label] for item in items], np.int64)
    query = None if test.query is None else np.array([item.part == "query" for item in items])
    met, expected = _census(labels, query), _census(test.labels, test.query)
    if met != expected:
        raise DataError(
            f"{len(items)} images of {len(np.unique(labels))} classes are not the study's "
            f"{len(test)} test images of {len(np.unique(test.labels))} classes: numbers on other "
            "images cannot stand in its table"
        )
    return Split(test.store, test.index, labels, query, test.recall_at)


def reference(
    study: Study, cell: CellKey, name: str, file: Path, by_angle: bool, size: int, scored: Scored
) -> Reference:
    """Return the reference row of what was measured on a study's test images."""
    return Reference(
        name=name,
        dataset=identity(cell.dataset),
        dataset_digest=digest_of(study, cell),
        file=file.name,
        file_sha256=checksums.of_file(file),
        compare="angle" if by_angle else "distance",
        size=size,
        metrics=scored.metrics,
        excluded=scored.excluded,
        ties=scored.ties,
        labels=scored.labels,
        counts=scored.counts,
        sums=scored.sums,
        opening=f"test images of {cell.dataset} opened to measure {file.name}, not trained here",
    )


def use_threads(study: Study) -> None:
    """Let torch sum as the study's jobs do."""
    torch.set_num_threads(study.protocol.threads_per_job)


def _census(
    labels: NDArray[np.int64], query: NDArray[np.bool_] | None
) -> Counter[tuple[int, bool]]:
    parts = [False] * len(labels) if query is None else query.tolist()
    return Counter(zip(labels.tolist(), parts, strict=True))


def _scored(
    found: metrics.PerQuery, pairs: dict[str, float], labels: NDArray[np.int64], dataset: str
) -> Scored:
    values = np.array([getattr(found, name) for name in metrics.METRICS])
    classes, counts, sums = sum_by_class(labels, values)
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    if len(classes) >= bootstrap.MIN_CLASSES:
        drawn = bootstrap.draw_classes(dataset, len(classes))
        means = bootstrap.class_means(drawn, sums, counts)
        ends = bootstrap.scores_over_classes(means, len(classes))
        low, high = (dict(zip(metrics.METRICS, end.tolist(), strict=True)) for end in ends)
    return Scored(
        metrics={**found.means(), **pairs},
        low=low,
        high=high,
        classes=len(classes),
        queries=int(counts.sum()),
        excluded=found.excluded,
        ties=found.ties,
        labels=classes.tolist(),
        counts=counts.tolist(),
        sums={n: row.tolist() for n, row in zip(metrics.METRICS, sums, strict=True)},
    )
