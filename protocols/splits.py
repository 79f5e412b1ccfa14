"""Class-disjoint partitions of a dataset's classes.

The first half of the class ids trains and validates, the second half is the sealed test set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.errors import InvalidInputError

Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Class ids of one partition; no class is in two of them."""

    train: Classes
    validation: Classes
    test: Classes


def mlrc_folds(num_classes: int, folds: int = 4) -> list[Fold]:
    """Return the Reality Check's folds: rotated contiguous blocks of the first half.

    Of n training classes, fold k trains on the ceil(n (folds - 1) / folds) classes from
    floor(k n / folds) on, wrapping round, and validates on the rest. Integer rounding leaves
    some classes in no validation block (Cars196: 24 and 73), as in the paper's code.

    Args:
        num_classes: classes of the whole dataset, test half included.
        folds: how many folds, at least 2.

    Raises:
        InvalidInputError: too few classes for the folds.

    Source: Musgrave et al. 2020, section 3.2; block arithmetic as its code runs it.
    """
    seen, test = _halves(num_classes, folds)
    size = seen - seen // folds
    parts = []
    for fold in range(folds):
        rotated = (np.arange(seen) + fold * seen // folds) % seen
        train, validation = np.sort(rotated[:size]), np.sort(rotated[size:])
        parts.append(Fold(train, validation, test))
    return parts


def kfold(num_classes: int, folds: int = 4) -> list[Fold]:
    """Return plain k-fold blocks of the first half: every class validates exactly once.

    Raises:
        InvalidInputError: too few classes for the folds.
    """
    seen, test = _halves(num_classes, folds)
    blocks = np.array_split(np.arange(seen), folds)
    return [
        Fold(np.concatenate(blocks[:k] + blocks[k + 1 :]), blocks[k], test) for k in range(folds)
    ]


RULES: dict[str, Callable[[int, int], list[Fold]]] = {"mlrc": mlrc_folds, "kfold": kfold}


def _halves(num_classes: int, folds: int) -> tuple[int, Classes]:
    """Return the number of training classes and the test classes."""
    seen = num_classes // 2
    if folds < 2 or seen < 2 * folds:
        raise InvalidInputError(
            f"{num_classes} classes in {folds} folds: needs at least 2 folds and "
            f"{4 * max(folds, 2)} classes"
        )
    return seen, np.arange(seen, num_classes)
