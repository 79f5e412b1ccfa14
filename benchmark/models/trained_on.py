"""Which images a model was trained on, by their checksums, and how many of others are the same.

An exported model says it in its description: the first digits of the sha256 of each training image,
or how many there were where they are too many to list or no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.models.description import Description
from benchmark.study import checksums
from benchmark.study.datasets import identity
from benchmark.study.folder import CellKey, Study
from benchmark.study.references import digest_of
from benchmark.study.sides import SUM_DIGITS, labels_path, read_labels, read_sums
from protocols.partition import TESTS, folds_of
from protocols.splits import RULES

MOST = 25_000  # images that are listed, in about 400 kB
UNKNOWN = "whether the model was trained on some of these images is not known"


@dataclass(frozen=True)
class Known:
    """What a study's labels file says of a dataset's images: their checksums and sides.

    Attributes:
        train: first digits of the checksums of the images that the folds trained on.
        test: those of the test images.
    """

    train: list[str]
    test: list[str]


def of_study(study: Study, cell: CellKey, folds: Sequence[int] | None = None) -> Known | None:
    """Return the checksums of a cell's images; None where they are not in the folder.

    Args:
        study: the output folder.
        cell: of the dataset.
        folds: whose training images are meant; None for all.
    """
    path = labels_path(study.out / "cache", cell.dataset, digest_of(study, cell))
    known = read_labels(path) if checksums.intact(path) else None
    sums = None if known is None else read_sums(path)
    if known is None or sums is None:
        return None
    every = folds_of(known, RULES[study.protocol.fold_rule], study.protocol.folds)
    counted = every if folds is None else [every[number] for number in folds]
    classes = np.unique(np.concatenate([fold.train for fold in counted]))
    sides = known.rows(classes, ("train",)), known.rows(every[0].test, TESTS)
    train, test = ([sums[number] for number in rows.tolist()] for rows in sides)
    return Known(train, test)


def described(study: Study, cell: CellKey, folds: Sequence[int]) -> dict[str, Any]:
    """Return what a model's description says of the images that its folds were trained on."""
    known = of_study(study, cell, folds)
    listed = None if known is None or len(known.train) > MOST else " ".join(sorted(known.train))
    return {
        "dataset": identity(cell.dataset),
        "dataset_digest": digest_of(study, cell),
        "images": None if known is None else len(known.train),
        "sha256_begin": listed,
    }


def count(told: Description, sums: Iterable[str]) -> int | None:
    """Return how many images the model was trained on too; None where it does not say.

    Args:
        told: the model's description.
        sums: the sha256 of each image, or its first digits; not asked for where it does not say.
    """
    listed = (told.origin.get("trained_on") or {}).get("sha256_begin")
    if listed is None:
        return None
    trained = set(listed.split())
    return sum(found[:SUM_DIGITS] in trained for found in sums)


def count_tests(told: Description, study: Study, cell: CellKey) -> tuple[int, int] | None:
    """Return how many of a study's test images the model was trained on, and of how many.

    A model of the very dataset was trained on what the study's own rows were: never on the test
    side, and copies across sides are said under the table. None where nothing is known.
    """
    same = (told.origin.get("trained_on") or {}).get("dataset_digest")
    if same and same == digest_of(study, cell):
        return 0, 0
    known = of_study(study, cell)
    met = None if known is None else count(told, known.test)
    return None if known is None or met is None else (met, len(known.test))
