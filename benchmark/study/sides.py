"""What a study's test asks for: classes that nothing was trained on, or some that were.

Named parts of own images may have a class on both sides, and queries apart from a gallery. Both
are known from the labels beside the decoded images; where those are gone, nothing is claimed.
Images that are files have checksums there too, which tell copies of one on both sides.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.study import checksums
from benchmark.study.datasets import store_key
from benchmark.study.folder import CellKey, Study
from benchmark.study.references import digest_of
from protocols.partition import (
    Labels,
    copies_in_words,
    count_copies,
    folds_of,
    on_test_side,
    shared_classes,
)
from protocols.splits import RULES

SUM_DIGITS = 16  # of a sha256 that are kept: enough to tell images apart, not to prove them


@dataclass(frozen=True)
class Sides:
    """How the test side of a dataset stands to what was trained on.

    Attributes:
        tested: how many classes it has.
        trained_too: how many of those the fold models were trained on.
        queries_apart: whether queries look among a gallery, not each image among all others.
        disjoint: whether no class is on two of the sides that train, validate and test, and no
            test image is a copy of another side's.
        copies: how many test images are byte copies of one that trains or validates, as far as
            checksums are known.
    """

    tested: int
    trained_too: int
    queries_apart: bool
    disjoint: bool
    copies: int = 0

    @property
    def warning(self) -> str:
        """Return what to know of classes and images, empty where all were new."""
        met = []
        if self.trained_too:
            met.append(f"{self.trained_too:,} of {self.tested:,} test classes were trained on too")
        if self.copies:
            met.append(f"{copies_in_words(self.copies)} (data check lists them)")
        return "; ".join(met)

    @property
    def all_new(self) -> bool:
        """Return whether no class and no image of the test was trained on."""
        return not self.warning

    @property
    def task(self) -> str:
        """Return what a query is looked for among."""
        if self.queries_apart:
            return "each query among the images of a gallery"
        return "each image a query among all others"


def sides_of(study: Study, cell: CellKey, folds: Sequence[int] | None = None) -> Sides | None:
    """Return what is known of a cell's dataset; None where its labels are not in the folder.

    Args:
        study: the output folder.
        cell: of the dataset.
        folds: whose training classes count; None for all.
    """
    path = labels_path(study.out / "cache", cell.dataset, digest_of(study, cell))
    known = read_labels(path) if checksums.intact(path) else None
    if known is None:
        return None
    protocol = study.protocol
    every = folds_of(known, RULES[protocol.fold_rule], protocol.folds)
    counted = every if folds is None else [every[number] for number in folds]
    trained = np.concatenate([fold.train for fold in counted])
    tested, sums = every[0].test, read_sums(path)
    copies = 0 if sums is None else count_copies(sums, on_test_side(known))
    return Sides(
        tested=len(tested),
        trained_too=int(np.isin(tested, trained).sum()),
        queries_apart=known.has("query"),
        disjoint=not copies and (known.parts is None or not shared_classes(known)),
        copies=copies,
    )


def of_datasets(study: Study) -> dict[str, Sides | None]:
    """Return what is known of each dataset of a study, by the name that tables call it."""
    cells = {cell.dataset: cell for cell in study.cells if digest_of(study, cell)}
    return {dataset: sides_of(study, cell) for dataset, cell in cells.items()}


def heading(sides: Sequence[Sides | None]) -> str:
    """Return which classes the tests of some datasets ask for, in a few words."""
    known = [one for one in sides if one is not None]
    if any(one.trained_too for one in known):
        some = f"{known[0].trained_too:,}" if len(sides) == 1 else "some"
        count = f"{known[0].tested:,} " if len(sides) == 1 else ""
        return f"{count}test classes, {some} of which were trained on too"
    new = known and len(known) == len(sides) and all(one.all_new for one in known)
    return "classes never trained on" if new else "test classes"


def labels_path(cache: Path, title: str, digest: str) -> Path:
    """Return the file of a dataset's labels, whatever the size of the images."""
    return cache / f"{store_key(title, digest)}.classes.npz"


def read_labels(path: Path) -> Labels | None:
    """Return what ``path`` holds; None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            order = file["order"]
            return Labels(file["labels"], len(order), file.get("parts"), order)
    # A zip checks its content; a flipped byte shows in one of these.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def read_sums(path: Path) -> list[str] | None:
    """Return the first digits of each image's sha256 in a labels file that was read.

    None where images are not files, or where an earlier version wrote it.
    """
    with np.load(path, allow_pickle=False) as file:
        return file["sums"].tolist() if "sums" in file.files else None
