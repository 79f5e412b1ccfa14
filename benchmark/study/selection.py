"""Which epoch, which trial: named rules, pure, on records."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.study.records import Metrics, TrialRecord

BEST_TRIAL = "highest mean over folds of the best validation value; earliest among equals"
NO_SEARCH = "nothing to search"
PUBLISHED = "published by the paper"


def improves(history: Sequence[Metrics], metric: str) -> bool:
    """Return whether the last validation is strictly better than all before it."""
    *before, last = (row[metric] for row in history)
    return all(last > value for value in before)


def hopeless(trials: Sequence[TrialRecord], limit: int) -> bool:
    """Return whether the last ``limit`` trials all failed: the search ends there."""
    return len(trials) >= limit and all(trial.status == "failed" for trial in trials[-limit:])


def choose(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the trial that final runs use, None if every trial failed."""
    done = [trial for trial in trials if trial.status == "done"]
    return max(done, key=lambda trial: (trial.value, -trial.number), default=None)
