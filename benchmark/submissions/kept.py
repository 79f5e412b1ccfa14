"""What is kept of a row once it is read and checked: all but what its queries found.

Per-query values are most of a row's bytes. They are looked at while the row is checked, so that a
check of many rows takes the memory of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmark.study.scores import Part
from benchmark.submissions import nearly, read
from benchmark.submissions.alike import Marks, marks_of
from benchmark.submissions.class_bootstrap import class_columns
from benchmark.submissions.read import SubmittedRow

Problem = tuple[str, str]  # message, path below the results folder


@dataclass(frozen=True)
class Kept:
    """A row and what follows from its per-query values, which it need not hold any more.

    Attributes:
        row: the row.
        problems: what is wrong with it and what lies beside it; empty for a further search, whose
            problems are with the row's.
        unread: why its search space cannot be told without running its method; empty if it can.
        marks: by seed what no other training may have.
        sampled: by seed what some of its queries found, to compare with other runs.
        test_sets: digests of the labels and queries of its runs, one in an honest row.
        class_columns: the leaderboard's columns of the interval over test classes, by part; none
            of a further search, which is in no table.
        further: the row's further searches, by number.
        looks: what is odd about its searches and no problem, for a human's eye.
    """

    row: SubmittedRow
    problems: list[Problem]
    unread: str
    marks: dict[int, Marks]
    sampled: dict[int, nearly.Sample]
    test_sets: list[str]
    class_columns: dict[Part, dict[str, Any]]
    further: list[Kept] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)

    @property
    def searches(self) -> list[Kept]:
        """Return the row and its further searches."""
        return [self, *self.further]


def keep(row: SubmittedRow, problems: Iterable[Problem] = (), unread: str = "") -> Kept:
    """Return ``row`` with what follows from its per-query values; it keeps them."""
    columns = class_columns(row) if row.search == 1 else {}
    further = [keep(search) for search in row.further]
    marks, some = _marks(row), nearly.sampled(row)
    return Kept(row, list(problems), unread, marks, some, _test_sets(row), columns, further)


def without_values(kept: Kept) -> Kept:
    """Return the same after its row and reruns have lost their per-query values."""
    for runs in (*kept.row.searches, *kept.row.reruns):
        runs.values.clear()
    return kept


def _marks(row: SubmittedRow) -> dict[int, Marks]:
    return {seed: marks_of(run, row.values.get(seed)) for seed, run in sorted(row.runs.items())}


def _test_sets(row: SubmittedRow) -> list[str]:
    found = row.values.values()
    digests = {sha256(v.labels.tobytes() + v.query.tobytes()).hexdigest() for v in found}
    return sorted(digests)


def unchecked(results: Path) -> list[Kept]:
    """Return the rows of a folder as they are, without their per-query values."""
    folders = read.row_folders(results)
    return [without_values(keep(read.read_row(results, folder))) for folder in folders]
