"""Which classes and images train, validate and test: by halves, or by parts that are named.

Datasets that ship and those of the literature keep the order of their classes. Images of one's own
have an order that means nothing, often a name's first letters, and cutting it in halves would
make a domain shift of it; so their classes are shuffled, by the digest of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protocols.errors import InvalidInputError
from protocols.splits import Classes, Fold

# halves: classes in their order, whatever parts are named; publisher: classes in their order,
# parts as named; own: classes shuffled, parts as named.
Rule = Literal["halves", "publisher", "own"]
PARTS = ("train", "val", "test", "query", "gallery")
TRAINS, TESTS = ("train", "val"), ("test", "query", "gallery")
# Said in the identity of cells of own images; raise it whenever their classes fall otherwise.
OWN_ORDER = "parts as named, classes shuffled by digest, 1"


@dataclass(frozen=True)
class Labels:
    """What a dataset says about its images, apart from their pixels.

    Attributes:
        labels: (N,) class ids.
        classes: how many classes there are.
        parts: (N,) the part of each image; None where classes are cut in halves.
        order: (classes,) class ids in the order in which they are cut.
    """

    labels: NDArray[np.int64]
    classes: int
    parts: NDArray[np.str_] | None
    order: Classes

    def has(self, part: str) -> bool:
        """Return whether some image is of ``part``."""
        return self.parts is not None and bool((self.parts == part).any())

    def rows(self, classes: Classes, parts: tuple[str, ...]) -> NDArray[np.int64]:
        """Return the images of some classes that are of one of ``parts``, if parts are named."""
        inside = np.isin(self.labels, classes)
        if self.parts is not None:
            inside &= np.isin(self.parts, parts)
        return np.flatnonzero(inside)


def labels_of(
    labels: NDArray[np.int64],
    classes: int,
    parts: NDArray[np.str_] | None,
    rule: Rule,
    digest: str,
) -> Labels:
    """Return what a dataset says, as its rule has it; ``digest`` is hex, of its images."""
    order = np.arange(classes)
    if rule == "own":
        order = np.random.default_rng(int(digest[:16], 16)).permutation(classes)
    return Labels(labels, classes, None if rule == "halves" else parts, order)


def folds_of(known: Labels, cut: Callable[[int, int], list[Fold]], folds: int) -> list[Fold]:
    """Return the class partitions, one a fold.

    Without parts the first half of the classes, in their order, trains and validates. With parts
    the training classes do, and the test side is as named; a part ``val`` is the one fold's
    validation.

    Args:
        known: what the dataset says.
        cut: a rule of :mod:`protocols.splits`.
        folds: how many.

    Raises:
        InvalidInputError: too few classes, or folds beside a validation part.
    """
    if known.parts is None:
        return [
            Fold(*(np.sort(known.order[block]) for block in (f.train, f.validation, f.test)))
            for f in cut(known.classes, folds)
        ]
    check_parts(known)
    seen, test = _classes(known, ("train",)), np.sort(_classes(known, TESTS))
    if known.has("val"):
        if folds != 1:
            raise InvalidInputError(
                f"the data names its own part val: that is one fold, not {folds}. Say folds = 1"
            )
        return [Fold(np.sort(seen), np.sort(_classes(known, ("val",))), test)]
    if len(seen) < 2 * folds:  # the rules count classes of both halves
        raise InvalidInputError(
            f"{len(seen)} training classes in {folds} folds: needs at least {2 * folds}"
        )
    blocks = cut(2 * len(seen), folds)
    return [Fold(np.sort(seen[b.train]), np.sort(seen[b.validation]), test) for b in blocks]


def check_parts(known: Labels) -> None:
    """Raise InvalidInputError where the named parts cannot make a study; the message counts."""
    assert known.parts is not None
    count = {part: int((known.parts == part).sum()) for part in PARTS}
    said = ", ".join(f"{n:,} {part}" for part, n in count.items() if n)
    fault = ""
    if not count["train"]:
        fault = "nothing trains. Call some images train"
    elif not any(count[part] for part in TESTS):
        fault = "nothing is tested. Call some images test, or query and gallery"
    elif count["test"] and (count["query"] or count["gallery"]):
        fault = "test stands beside query or gallery. Images of test are both: keep one of the two"
    elif bool(count["query"]) != bool(count["gallery"]):
        fault = "query and gallery go together. Where each image is both, call it test"
    if fault:
        raise InvalidInputError(f"parts: {said}: {fault}")


def shared_classes(known: Labels) -> dict[tuple[str, str], int]:
    """Return how many classes two sides have in common: (train, val), (train, test), (val, test).

    They are allowed and counted: such a test asks for known classes, not for new ones.
    """
    sides = {"train": ("train",), "val": ("val",), "test": TESTS}
    classes = {name: set(_classes(known, parts).tolist()) for name, parts in sides.items()}
    pairs = (("train", "val"), ("train", "test"), ("val", "test"))
    return {pair: n for pair in pairs if (n := len(classes[pair[0]] & classes[pair[1]]))}


def on_test_side(known: Labels) -> NDArray[np.bool_]:
    """Return for each image whether it is on the test side."""
    if known.parts is not None:
        return np.isin(known.parts, TESTS)
    return np.isin(known.labels, known.order[known.classes // 2 :])


def count_copies(sums: Sequence[str], tests: NDArray[np.bool_]) -> int:
    """Return how many images on the test side are byte copies of one on the other side.

    Args:
        sums: a checksum of each image's file.
        tests: for each image, whether it is on the test side.
    """
    sides = list(zip(sums, tests.tolist(), strict=True))
    trained = {found for found, tested in sides if not tested}
    return sum(tested and found in trained for found, tested in sides)


def copies_in_words(copies: int) -> str:
    """Return what :func:`count_copies` found and what follows from it."""
    which = "image is a byte copy" if copies == 1 else "images are byte copies"
    return f"{copies:,} test {which} of images on the training side, so test scores are too high"


def _classes(known: Labels, parts: tuple[str, ...]) -> Classes:
    """Return the classes that have an image of ``parts``, in the order of the dataset."""
    if known.parts is None:
        return known.order[:0]
    inside = np.unique(known.labels[np.isin(known.parts, parts)])
    return known.order[np.isin(known.order, inside)]
