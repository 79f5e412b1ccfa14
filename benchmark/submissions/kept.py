"""What is kept of a row once it is read and checked: all but what its queries found.

Per-query values are most of a row's bytes. They are looked at while the row is checked, so that a
check of many rows takes the memory of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmark.study.scores import Part
from benchmark.submissions import nearly, read
from benchmark.submissions.alike import Marks, marks_of
from benchmark.submissions.class_bootstrap import class_columns
from benchmark.submissions.read import Rerun, SubmittedRow

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
        reruns: its reruns, each as a row of its own with the place of its folder.
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
    reruns: list[Kept] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)

    @property
    def searches(self) -> list[Kept]:
        """Return the row and its further searches."""
        return [self, *self.further]


def keep(row: SubmittedRow, problems: Iterable[Problem] = (), unread: str = "") -> Kept:
    """Return ``row`` with what follows from its per-query values; it keeps them."""
    found = _compared(row)
    further = [_compared(search) for search in row.further]
    reruns = [_compared(_as_row(row, rerun)) for rerun in row.reruns]
    return replace(
        found,
        problems=list(problems),
        unread=unread,
        class_columns=class_columns(row),
        further=further,
        reruns=reruns,
    )


def _compared(row: SubmittedRow) -> Kept:
    """Return what is compared between rows; it stands in no table."""
    return Kept(row, [], "", _marks(row), nearly.sampled(row), _test_sets(row), {})


def _as_row(row: SubmittedRow, rerun: Rerun) -> SubmittedRow:
    """Return the runs of a rerun as those of a row of the same cell."""
    return SubmittedRow(
        runs=rerun.runs, values=rerun.values, place=f"{row.place}/{rerun.name}", cell=row.cell
    )


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
