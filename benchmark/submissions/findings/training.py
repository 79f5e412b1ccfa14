"""How far training went: whether the last validation was kept, and where none after the start was.

Said is what the runs record: the step of the model that each fold kept. A fold that kept step 0 is
one in which no validation after the start was better, so its model never trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from benchmark.study.scores import NOTHING, per_cent
from benchmark.study.step_zero import untrained_folds
from benchmark.submissions.budget import pace_of
from benchmark.submissions.findings.studies import Entry, Study
from benchmark.submissions.schema import Run

HEADING = "How far training went"
HEADER = (
    "method",
    "dataset",
    "runs with an untrained fold",
    "mean MAP@R of these, %",
    "of the other runs, %",
    "tied queries, %",
)
UNTRAINED = "*"
_TIED = 0.001  # of a run's queries; fewer are a matter of rounding
_MOST = 0.5  # of the trainings


@dataclass(frozen=True)
class Kept:
    """Final trainings, one of each fold of a run, and which validation they kept.

    Attributes:
        trainings: how many there were.
        last: how many kept the last validation that their budget has.
        steps: at which step that is; several where datasets have budgets of their own.
    """

    trainings: int
    last: int
    steps: tuple[int, ...]

    @property
    def mostly_last(self) -> bool:
        """Return whether most trainings kept the last validation."""
        return self.last > _MOST * self.trainings

    @property
    def spoken(self) -> str:
        """Return how many kept the last validation, for example ``7 of 8``."""
        return f"{self.last:,} of {self.trainings:,}"

    @property
    def where(self) -> str:
        """Return the last step in words."""
        return " or ".join(map(str, self.steps))


@dataclass(frozen=True)
class Uneven:
    """A row in which some folds kept an untrained model, or many queries are tied.

    Attributes:
        method, dataset: whose.
        runs: how many came through.
        untrained: the headline metric of those that kept the untrained model of a fold.
        others: the headline metric of the others; both are fractions.
        tied: the largest share of a run's queries whose value depends on the order of the files.
    """

    method: str
    dataset: str
    runs: int
    untrained: tuple[float, ...]
    others: tuple[float, ...]
    tied: float


def kept(pairs: Iterable[tuple[Entry, Run]], *, timed: bool) -> Kept | None:
    """Return which validation the folds of runs kept.

    Args:
        pairs: runs with the entries that they are of; those that diverged are passed over.
        timed: whether a budget of seconds ended the trainings: then no record says at which step
            the last validation was.

    Returns:
        The counts, None where the records do not tell or there is no training.
    """
    found = [
        (step, pace_of(entry.cell).max_steps)
        for entry, run in pairs
        if run.status == "done"
        for step in run.best_steps
    ]
    if timed or not found:
        return None
    return Kept(
        len(found), sum(step == end for step, end in found), tuple(sorted({e for _, e in found}))
    )


def trained(study: Study) -> Kept | None:
    """Return which validation the final trainings of the rows kept, their own search's alone."""
    pairs = [(entry, run) for entry in _whole(study) for run in entry.row.runs.values()]
    return kept(pairs, timed=study.protocol.budget_s is not None)


def watched(study: Study) -> Kept | None:
    """Return the same of the runs whose test scores were watched along the training."""
    pairs = [(e, e.row.runs[seed]) for e in _whole(study) for seed in sorted(e.row.watched)]
    return kept(pairs, timed=study.protocol.budget_s is not None)


def went(study: Study) -> str:
    """Return whether the ranking is one of converged trainings; empty where no record tells."""
    own = trained(study)
    if own is None:
        return ""
    said = (
        f"{own.spoken} final trainings (one a fold) kept the model of their last validation, "
        f"step {own.where}"
    )
    if own.mostly_last:
        return f"{said}: this ranks methods after {own.where} steps, not at convergence."
    return f"{said}; the others validated best before the end of their budget."


def watched_went(study: Study) -> str:
    """Return why there is little to claim where trainings had not converged, else nothing."""
    own = watched(study)
    if own is None or not own.mostly_last:
        return ""
    return (
        f"{own.spoken} of these trainings kept their last validation, step {own.where}: while a "
        "score still rises on both, validation and test choose the same epoch, so this says "
        "nothing of trainings that converge."
    )


def untrained_runs(entry: Entry) -> list[int]:
    """Return the seeds of which a fold kept its untrained model; none of a reference."""
    if not entry.competes or entry.fault:
        return []
    return [seed for seed, run in sorted(entry.row.runs.items()) if untrained_folds(run)]


def is_mixed(entry: Entry) -> bool:
    """Return whether some runs of a row kept a fold's untrained model."""
    return bool(untrained_runs(entry))


def uneven(study: Study) -> list[Uneven]:
    """Return the rows that a mean and its interval describe badly, method by method."""
    found = map(_uneven, _whole(study))
    return [own for own in found if own.untrained or own.tied >= _TIED]


def said(study: Study) -> str:
    """Return how far training went and how many rows are of two kinds of run."""
    return " ".join(filter(None, (went(study), _two_kinds(study))))


def rows(study: Study) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each row that a mean and its interval describe badly."""
    for own in uneven(study):
        yield (
            own.method,
            own.dataset,
            f"{len(own.untrained)} of {own.runs}",
            *(per_cent(fmean(part)) if part else NOTHING for part in (own.untrained, own.others)),
            per_cent(own.tied, 1),
        )


def note(study: Study) -> str:
    """Return how to read the rows; empty without one."""
    if not uneven(study):
        return ""
    return (
        "Untrained fold: it kept the model of step 0, as no later validation was better. Tied "
        "queries: the most of any run, of its test queries; their values depend on the order of "
        "the files, as images of their class are exactly as near as others. Rows without an "
        f"untrained fold and below {100 * _TIED:g} % of tied queries are left out."
    )


def _two_kinds(study: Study) -> str:
    found = [own for own in uneven(study) if own.untrained]
    if not found:
        return ""
    listed = ", ".join(
        f"{own.method} on {own.dataset} ({len(own.untrained)} of {own.runs})" for own in found
    )
    runs = sum(len(entry.by_seed) for entry in _whole(study))
    return (
        f"{sum(len(own.untrained) for own in found)} of {runs:,} runs kept a fold's untrained "
        f"model (step 0): {listed}. Such a mean is of two kinds of run, and Student's interval "
        "does not describe it."
    )


def _whole(study: Study) -> list[Entry]:
    """Return the entries without a fault that train the trunk, method by method."""
    return [e for own in study.contestants.values() for e in own.values() if not e.fault]


def _uneven(entry: Entry) -> Uneven:
    scores, without = entry.by_seed, set(untrained_runs(entry))
    return Uneven(
        entry.method,
        entry.cell.dataset,
        len(scores),
        tuple(score for seed, score in scores.items() if seed in without),
        tuple(score for seed, score in scores.items() if seed not in without),
        max((_tied(run) for run in entry.row.runs.values()), default=0.0),
    )


def _tied(run: Run) -> float:
    """Return the share of tied queries; 0 of a run that does not say it."""
    queries = (run.embeddings_shape or [0])[0] - (run.excluded or 0)
    return (run.ties or 0) / queries if queries > 0 else 0.0
