"""Who beats the baseline where, and where each method stands across the datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmark.statistics import standings
from benchmark.study.scores import MARKS
from benchmark.submissions.findings.studies import Entry, Study


@dataclass(frozen=True)
class Standing:
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
        """Return whether it trains the trunk."""
        return all(entry.competes for entry in self.entries.values())

    @property
    def rank(self) -> float | None:
        """Return the mean rank, 1 is best; None where a dataset is missing or nothing trains."""
        found: float | None = self.across.get("rank")
        return found


def standing(study: Study) -> list[Standing]:
    """Return all methods, best mean rank first; those without a rank, then what trains nothing.

    Ranks are among the methods that train the trunk.
    """
    contestants, everything = study.contestants, study.by_method
    across = {**_columns(study, set(everything) - set(contestants)), **_columns(study, contestants)}
    for method in everything.keys() - contestants.keys():
        across[method] = {k: v for k, v in across[method].items() if not k.startswith("rank")}
    found = [Standing(method, own, across[method]) for method, own in everything.items()]
    return sorted(
        found,
        key=lambda s: (not s.competes, s.rank is None, s.rank or 0.0, s.method),
    )


def counts(study: Study) -> dict[str, Counter[str]]:
    """Return how many comparisons of each dataset came out which way."""
    return {
        dataset: Counter(e.head["verdict"] for e in group if e.head.get("verdict"))
        for dataset, group in study.by_dataset.items()
    }


def by_verdict(study: Study, dataset: str) -> dict[str, list[str]]:
    """Return the methods of each verdict on a dataset, best first."""
    found: dict[str, list[str]] = {verdict: [] for verdict in MARKS}
    for entry in study.by_dataset[dataset]:
        if verdict := entry.head.get("verdict"):
            found[verdict].append(entry.method)
    return found


def _columns(study: Study, methods: Any) -> dict[str, dict[str, Any]]:
    """Return the columns of some methods, the baseline's gain among them."""
    everything = study.by_method
    values = {m: {d: e.by_seed for d, e in everything[m].items() if e.by_seed} for m in methods}
    fixed = {m for m in methods if all(e.row.fixed for e in everything[m].values())}
    if study.baseline in everything and study.baseline not in values:
        own = everything[study.baseline]
        values[study.baseline] = {d: e.by_seed for d, e in own.items() if e.by_seed}
    found = standings.columns(values, study.datasets, study.baseline, fixed)
    return {method: found[method] for method in methods}
