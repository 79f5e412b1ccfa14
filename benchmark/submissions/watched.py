"""What the test classes said along the training of a run: the oracle gap, as data.

A study under ``--oracle-gap`` trains a row's runs once more, bit for bit, and scores the test
classes at every validation. ``oracle-N.json`` beside ``seed-N.json`` holds those scores. What
choosing the epoch on them would have claimed stands beside the row, and is never its number.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import Annotated

from pydantic import Field

from benchmark.submissions.fields import Data, Fraction, Id, Natural, Sha256
from benchmark.submissions.schema import Run
from protocols.metrics import METRICS

SCHEMA = 1
MAX_BYTES = 512 << 10  # of a file: four folds of 501 validations take some 130 kB


class WatchedFold(Data):
    """One training: its validations in order, and the test metrics of its network at each.

    All lists are of one length. Under a recipe that averages weights the last entry is of the
    averaged ones, at the step of the entry before it.
    """

    step: Annotated[list[Natural], Field(min_length=1)]
    precision_at_1: Annotated[list[Fraction], Field(min_length=1)]
    r_precision: Annotated[list[Fraction], Field(min_length=1)]
    map_at_r: Annotated[list[Fraction], Field(min_length=1)]

    def at(self, place: int) -> dict[str, float]:
        """Return the metrics of one entry."""
        return {name: getattr(self, name)[place] for name in METRICS}


class Watched(Data):
    """The trainings of one run, ``oracle-N.json``; ``embeddings_sha256`` is the run's own."""

    schema_: int = Field(SCHEMA, alias="schema", ge=1, le=SCHEMA)
    cell: Id
    seed: Natural
    embeddings_sha256: Sha256
    folds: Annotated[list[WatchedFold], Field(min_length=1)]
    sha256: Sha256

    def claimed(self, metric: str) -> float:
        """Return what choosing each fold's epoch by ``metric`` on the test classes would claim.

        The mean over folds, a fraction, comparable with a run's ``separated`` metrics.
        """
        return fmean(max(getattr(fold, metric)) for fold in self.folds)

    def gap(self, run: Run, metric: str) -> float:
        """Return how much more that is than ``run`` has, a fraction; NaN if the run diverged.

        Args:
            run: the run that was watched.
            metric: one of :data:`protocols.metrics.METRICS`.
        """
        if run.separated is None:
            return math.nan
        found: float = self.claimed(metric) - getattr(run.separated, metric)
        return found
