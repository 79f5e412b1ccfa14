"""The rows of results/ put together into studies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from benchmark.study.scores import HEADLINE
from benchmark.submissions import budget
from benchmark.submissions.kept import Kept
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell
from protocols.errors import BenchmarkError
from protocols.protocol import Protocol
from protocols.space import Space, resolve

MIN_DATASETS = 2


@dataclass(frozen=True)
class Entry:
    """A method on a dataset.

    Attributes:
        row: what its files hold.
        cell: its cell.
        head: the leaderboard's columns of the headline metric.
        space: what was searched.
    """

    row: SubmittedRow
    cell: Cell
    head: Mapping[str, Any]
    space: Space

    @property
    def method(self) -> str:
        """Return the row's name in its table."""
        return str(self.head["method"])

    @property
    def searches(self) -> list[SubmittedRow]:
        """Return the row and its further searches, without those that chose nothing possible."""
        return [
            self.row,
            *(row for row in self.row.further if row.cell and _fits(self.space, row.cell)),
        ]

    @property
    def competes(self) -> bool:
        """Return whether it trains the trunk; the others only show what the trunk can do."""
        return not self.row.stands_aside

    @property
    def fault(self) -> str:
        """Return why its mean counts nowhere, in a few words; empty for a whole row.

        Seeds that diverged are no accident: the mean of the others is that of an easier task.
        """
        if self.head["state"] == "refuted":
            return "refuted"
        n, asked = self.head["n"], self.head["runs"]
        return "" if n == asked else f"{n}/{asked} runs"

    @property
    def by_seed(self) -> dict[int, float]:
        """Return the headline metric of each run that came through, a fraction."""
        return headline(self.row)


@dataclass(frozen=True)
class Study:
    """Tables of one protocol, trunk and recipe that hold, at least two of them.

    Of the protocol's own datasets these are the ones on which the baseline has a whole row, and at
    least half as many methods have as on the second of the datasets with most. The first rows of a
    further dataset do not take from all methods what is said of those with a row on every one.

    Attributes:
        protocol: as it is now.
        trunk, recipe: what was trained, and how.
        by_dataset: the entries of each dataset, best first; datasets in the protocol's order.
        left_out: the protocol's other datasets, and why they are not among these.
    """

    protocol: Protocol
    trunk: str
    recipe: str
    by_dataset: Mapping[str, Sequence[Entry]]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def datasets(self) -> list[str]:
        """Return the datasets' names."""
        return list(self.by_dataset)

    @property
    def entries(self) -> list[Entry]:
        """Return the entries of all datasets."""
        return [entry for group in self.by_dataset.values() for entry in group]

    @cached_property
    def by_method(self) -> dict[str, dict[str, Entry]]:
        """Return the entries by method, then by dataset."""
        found: dict[str, dict[str, Entry]] = {}
        for dataset, group in self.by_dataset.items():
            for entry in group:
                found.setdefault(entry.method, {})[dataset] = entry
        return found

    @cached_property
    def contestants(self) -> dict[str, dict[str, Entry]]:
        """Return the methods that compete; the others are references."""
        return {
            method: own
            for method, own in self.by_method.items()
            if all(entry.competes for entry in own.values())
        }

    @property
    def whole(self) -> dict[str, dict[str, Entry]]:
        """Return the contestants that have a whole row on every dataset."""
        return {
            method: own
            for method, own in self.contestants.items()
            if len(own) == len(self.by_dataset) and not any(e.fault for e in own.values())
        }

    @property
    def baseline(self) -> str:
        """Return the method that the others are compared with."""
        return self.protocol.baseline

    @property
    def compared(self) -> list[Entry]:
        """Return the whole rows that have a verdict against the baseline."""
        return [e for e in self.entries if e.head.get("verdict") and not e.fault]


def studies(
    tables: Iterable[Sequence[Mapping[str, Any]]],
    rows: Iterable[Kept],
    known: Mapping[str, Protocol],
) -> list[Study]:
    """Return the studies that the tables of a leaderboard make.

    Args:
        tables: of :func:`benchmark.submissions.leaderboard.tables`.
        rows: that they were made of.
        known: the protocols that ship.
    """
    by_place = {kept.row.place: kept.row for kept in rows}
    groups: dict[tuple[str, str, str], dict[str, list[Entry]]] = {}
    for table in tables:
        entries = list(_entries(table, by_place))
        if entries and entries[0].head["current"] and not entries[0].head["void_since"]:
            head = entries[0].head
            key = (head["protocol"], head["trunk"], head["recipe"])
            groups.setdefault(key, {})[head["dataset"]] = entries
    found = []
    for (name, trunk, recipe), by_dataset in sorted(groups.items()):
        protocol = known[name]
        own = {d: by_dataset.get(d, []) for d in protocol.datasets}
        left_out = _left_out(own, protocol.baseline)
        kept = {d: group for d, group in own.items() if d not in left_out}
        if len(kept) >= MIN_DATASETS:
            found.append(Study(protocol, trunk, recipe, kept, left_out))
    return found


def headline(row: SubmittedRow) -> dict[int, float]:
    """Return the headline metric of each run of ``row`` that came through, a fraction."""
    embedding, metric = HEADLINE
    scores = {seed: getattr(run, embedding) for seed, run in sorted(row.runs.items())}
    return {seed: getattr(own, metric) for seed, own in scores.items() if own}


def _entries(
    table: Sequence[Mapping[str, Any]], by_place: Mapping[str, SubmittedRow]
) -> Iterator[Entry]:
    for head in table:
        row = by_place[head["place"]]
        if (head["embedding"], head["metric"]) != HEADLINE or row.cell is None:
            continue
        space = _space(row.cell)
        if space is not None:
            yield Entry(row, row.cell, head, space)


def _space(cell: Cell) -> Space | None:
    """Return what a cell searched; None where space or choice are none, which ``verify`` names."""
    try:
        space = budget.space_of(cell)
    except BenchmarkError:
        return None
    return space if _fits(space, cell) else None


def _fits(space: Space, cell: Cell) -> bool:
    """Return whether what a search chose lies in the space; ``verify`` names what does not."""
    try:
        resolve(space, cell.chosen.settings)
    except BenchmarkError:
        return False
    return True


def _left_out(own: Mapping[str, Sequence[Entry]], baseline: str) -> dict[str, str]:
    """Return the datasets that say too little, and why."""
    whole = {d: {e.method for e in group if e.competes and not e.fault} for d, group in own.items()}
    counts = sorted(
        (len(methods) for methods in whole.values() if baseline in methods), reverse=True
    )
    second, found = (counts[1] if len(counts) > 1 else 0), {}
    for dataset, methods in whole.items():
        if not own[dataset]:
            found[dataset] = "no valid row"
        elif baseline not in methods:
            found[dataset] = f"no whole row of {baseline}"
        elif len(methods) < 2:
            found[dataset] = f"a whole row of {baseline} alone"
        elif 2 * len(methods) < second:
            found[dataset] = f"whole rows of {len(methods)} methods, elsewhere of {second}"
    return found
