"""The rows of results/ put together into studies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmark.study.scores import HEADLINE
from benchmark.submissions.kept import Kept
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell
from protocols.protocol import FROZEN_ROWS, Protocol

MIN_DATASETS = 2


@dataclass(frozen=True)
class Entry:
    """A method on a dataset.

    Attributes:
        row: what its files hold.
        cell: its cell.
        head: the leaderboard's columns of the headline metric.
    """

    row: SubmittedRow
    cell: Cell
    head: Mapping[str, Any]

    @property
    def method(self) -> str:
        """Return the row's name in its table."""
        return str(self.head["method"])

    @property
    def competes(self) -> bool:
        """Return whether it trains the trunk; the others only show what the trunk can do."""
        return not (self.row.untrained or self.cell.method in FROZEN_ROWS)

    @property
    def by_seed(self) -> dict[int, float]:
        """Return the headline metric of each run that came through, a fraction."""
        return headline(self.row)


@dataclass(frozen=True)
class Study:
    """Tables of one protocol, trunk and recipe that hold, at least two of them.

    Attributes:
        protocol: as it is now.
        trunk, recipe: what was trained, and how.
        by_dataset: the entries of each dataset, best first; datasets in the protocol's order.
    """

    protocol: Protocol
    trunk: str
    recipe: str
    by_dataset: Mapping[str, Sequence[Entry]]

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

    @property
    def contestants(self) -> dict[str, dict[str, Entry]]:
        """Return the methods that train the trunk."""
        return {
            method: own
            for method, own in self.by_method.items()
            if all(entry.competes for entry in own.values())
        }

    @property
    def baseline(self) -> str:
        """Return the method that the others are compared with."""
        return self.protocol.baseline

    @property
    def compared(self) -> list[Entry]:
        """Return the entries that have a verdict against the baseline."""
        return [entry for entry in self.entries if entry.head.get("verdict")]


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
        if len(by_dataset) >= MIN_DATASETS:
            own = known[name].datasets
            order = sorted(by_dataset, key=lambda d: (own.index(d) if d in own else len(own), d))
            found.append(Study(known[name], trunk, recipe, {d: by_dataset[d] for d in order}))
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
        if (head["embedding"], head["metric"]) == HEADLINE and row.cell:
            yield Entry(row, row.cell, head)
