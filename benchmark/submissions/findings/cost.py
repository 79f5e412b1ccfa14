"""What the methods cost, and which of them are on the front of quality against cost.

The seconds are those of processors: by the clock a training takes two or three times as long beside
others. On a GPU they are a job's part of the card's time, which the study's jobs there share.
Memory is left out: on a CPU a process holds what earlier jobs left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from benchmark.submissions.budget import kind_of
from benchmark.submissions.findings.studies import Entry, Study
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.took import MEASURES, took

ALIKE = 0.05  # of a training's seconds: processors are no steadier


@dataclass(frozen=True)
class Cost:
    """A method that has a whole row on every dataset.

    Attributes:
        method: its name.
        mean: of its means over the datasets, a fraction of MAP@R.
        training_s: seconds of one training, with its validations: the mean over search and runs.
        hours: of all its trainings, searches and runs.
        on_front: whether no method of the front beats it: none has a higher mean for at most 5 %
            more seconds, nor the same mean for clearly fewer. No test stands behind it.
    """

    method: str
    mean: float
    training_s: float
    hours: float
    on_front: bool = False


def measure_of(study: Study) -> str | None:
    """Return which of ``MEASURES`` all whole rows tell; None on two kinds of device, or of none."""
    rows = [entry.row for own in study.whole.values() for entry in own.values()]
    kinds = {kind_of(run.environment) for row in rows for run in row.runs.values()}
    told = (name for name in MEASURES if all(took(row, name) for row in rows))
    return next(told, None) if len(kinds) == 1 else None


def costs(study: Study) -> list[Cost]:
    """Return what each method cost, the cheapest training first; nothing where rows do not tell."""
    measure = measure_of(study)
    found = list(_costs(study, measure)) if measure else []
    members = {own.method for own in front(found)}
    marked = [replace(own, on_front=own.method in members) for own in found]
    return sorted(marked, key=lambda own: (own.training_s, own.method))


def front(found: Iterable[Cost]) -> list[Cost]:
    """Return the methods that no other one returned beats, the highest mean first.

    Who is beaten only by a method that is off the front itself stays on it: seconds that are alike
    in pairs, 7.1 and 7.4, 7.4 and 7.7, need not be at the ends. Nobody is beaten by what comes
    later in this order, so there is one such front.
    """
    kept: list[Cost] = []
    for own in sorted(found, key=lambda cost: (-cost.mean, cost.training_s, cost.method)):
        if not any(_beats(member, own) for member in kept):
            kept.append(own)
    return kept


def _costs(study: Study, measure: str) -> Iterator[Cost]:
    for method, own in study.whole.items():
        entries: Sequence[Entry] = list(own.values())
        seconds = sum(took(entry.row, measure) or 0.0 for entry in entries)
        yield Cost(
            method=method,
            mean=fmean(entry.head["mean"] for entry in entries),
            training_s=seconds / sum(_trainings(entry.row) for entry in entries),
            hours=seconds / 3600,
        )


def _trainings(row: SubmittedRow) -> int:
    searching = sum(len(trial.folds) for trial in row.trials)
    return searching + sum(len(run.folds) for run in row.runs.values())


def _beats(other: Cost, own: Cost) -> bool:
    """Return whether another method has a higher mean for as much, or the same one for less."""
    if other.mean == own.mean:
        return other.training_s * (1 + ALIKE) < own.training_s
    return other.mean > own.mean and other.training_s <= (1 + ALIKE) * own.training_s
