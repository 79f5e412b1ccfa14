"""Who beats the baseline where, and where each method stands across the datasets."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from benchmark.statistics import standings
from benchmark.study.scores import MARKS
from benchmark.submissions.findings.studies import Entry, Study


@dataclass(frozen=True)
class Place:
    """A method on all datasets.

    Attributes:
        method: its name.
        entries: by dataset, only where it has a row.
        across: mean, rank, gain and their intervals, as :mod:`benchmark.statistics.standings`
            names them; fractions. Without numbers where it lacks a dataset.
    """

    method: str
    entries: Mapping[str, Entry]
    across: Mapping[str, Any]

    @property
    def competes(self) -> bool:
        """Return whether it is no reference."""
        return all(entry.competes for entry in self.entries.values())

    @property
    def deviates(self) -> bool:
        """Return whether a row of it says that it deviates from the protocol."""
        return any(entry.head["deviates"] for entry in self.entries.values())

    @property
    def rank(self) -> float | None:
        """Return the mean rank, 1 is best; None of a reference and where a whole row is missing."""
        found: float | None = self.across.get("rank")
        return found


def places(study: Study) -> list[Place]:
    """Return all methods, best mean rank first; those without a rank, then the references.

    Ranks are among the methods that are no references.
    """
    everything = study.by_method
    across = _columns(study, everything.keys() - study.contestants.keys())
    found = [Place(method, own, across[method]) for method, own in everything.items()]
    return sorted(
        found,
        key=lambda s: (not s.competes, s.rank is None, s.rank or 0.0, s.method),
    )


def by_verdict(study: Study, dataset: str) -> dict[str, list[str]]:
    """Return the methods with a whole row of each verdict on a dataset, best first."""
    found: dict[str, list[str]] = {verdict: [] for verdict in MARKS}
    for entry in study.by_dataset[dataset]:
        verdict = entry.head.get("verdict")
        if verdict and not entry.fault:
            found[verdict].append(entry.method)
    return found


def _columns(study: Study, aside: Set[str]) -> dict[str, dict[str, Any]]:
    """Return the columns of all methods, with what each lacks; ``aside`` are the references."""
    everything = study.by_method
    values = {
        method: {d: entry.by_seed for d, entry in own.items() if not entry.fault}
        for method, own in everything.items()
    }
    fixed = {m for m in values if all(e.row.fixed for e in everything[m].values())}
    found = standings.columns(values, study.datasets, study.baseline, fixed, aside)
    for method, own in everything.items():
        faults = [f"{own[d].fault} on {d}" for d in study.datasets if d in own and own[d].fault]
        missing = [d for d in study.datasets if d not in own]
        if missing:
            faults.append(f"no row on {', '.join(missing)}")
        if faults:
            found[method]["note"] = "; ".join(faults)
    return found
