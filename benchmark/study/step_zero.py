"""Which folds of final runs kept their untrained model.

A training keeps the model that validated best, and the untrained one of step 0 is a candidate. So a
fold that kept step 0 is one in which no later validation was better: nothing of its training is in
what was tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class Ended(Protocol):
    """A run that has ended, as a study or a submission records it."""

    @property
    def status(self) -> str:
        """Return whether it came through: ``done`` or ``failed``."""

    @property
    def best_steps(self) -> Sequence[int | None]:
        """Return the step of the model that each fold kept; none in old records."""


def untrained_folds(run: Ended) -> int:
    """Return how many folds of a run kept their untrained model; 0 of a run that failed."""
    return run.best_steps.count(0) if run.status == "done" else 0


def wholly_untrained(runs: Iterable[Ended]) -> bool:
    """Return whether all folds of all runs that came through kept their untrained model."""
    done = [run for run in runs if run.status == "done"]
    return bool(done) and all(0 < untrained_folds(run) == len(run.best_steps) for run in done)
