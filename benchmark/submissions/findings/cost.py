"""What the methods cost, and which of them no cheaper method equals by its mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from benchmark.submissions.findings.studies import Entry, Study
from benchmark.submissions.took import seconds_of

ALIKE = 0.05  # of a training's seconds: machines are no steadier


@dataclass(frozen=True)
class Cost:
    """A method that has a whole row on every dataset.

    Attributes:
        method: its name.
        mean: of its means over the datasets, a fraction of MAP@R.
        run_s: seconds of training of one run, all folds: the median of all its runs.
        peak_memory_mb: the most that a run took.
        hours: of all its trainings, searches and runs, one after the other.
        best_value: whether no other method has as high a mean for a shorter training, or a higher
            one for as long a training; seconds within 5 % count as alike. No test stands behind it.
    """

    method: str
    mean: float
    run_s: float
    peak_memory_mb: int
    hours: float
    best_value: bool = False


def costs(study: Study) -> list[Cost]:
    """Return what each method cost, the cheapest run first."""
    found = list(_costs(study))
    marked = [replace(own, best_value=not any(_beats(o, own) for o in found)) for own in found]
    return sorted(marked, key=lambda own: (own.run_s, own.method))


def _costs(study: Study) -> Iterator[Cost]:
    for method, own in study.whole.items():
        entries: Sequence[Entry] = list(own.values())
        runs = [run for entry in entries for run in entry.row.runs.values()]
        yield Cost(
            method=method,
            mean=fmean(entry.head["mean"] for entry in entries),
            run_s=median(run.train_s for run in runs),
            peak_memory_mb=max(run.peak_memory_mb for run in runs),
            hours=sum(seconds_of(entry.row) for entry in entries) / 3600,
        )


def _beats(other: Cost, own: Cost) -> bool:
    """Return whether another method has as high a mean for less, or a higher one for as much."""
    shorter = other.run_s < (1 - ALIKE) * own.run_s
    alike = other.run_s * (1 - ALIKE) <= own.run_s
    return (other.mean >= own.mean and shorter) or (other.mean > own.mean and alike)
