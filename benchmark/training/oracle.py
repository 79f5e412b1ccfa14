"""What selecting on the test classes would have claimed: seen only under ``--oracle-gap``.

Choosing the epoch that tests best is a common way to a number that is too high. The gap to the
epoch that validation chose says how much too high. Nothing here goes back into training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean

from benchmark.study.records import JobRecord, Metrics


class Watch:
    """Scores the test classes at every validation of one final training.

    Attributes:
        rows: step and test metrics.
        openings: a line for each time the test split was opened.
        seconds: what that took.
    """

    def __init__(self, score_test: Callable[[], tuple[Metrics, str]]) -> None:
        self._score_test = score_test
        self.rows: list[Metrics] = []
        self.openings: list[str] = []
        self.seconds = 0.0

    def __call__(self, step: int) -> None:
        """Open the test split, score the network as it is now, and note both."""
        started = time.perf_counter()
        found, what = self._score_test()
        self.rows.append({"step": step, **found})
        self.openings.append(f"{what} opened to watch step {step} for the oracle gap")
        self.seconds += time.perf_counter() - started


def unwatched(step: int) -> None:
    """See nothing, as in every training but a final one under ``--oracle-gap``."""


def claimed(jobs: Sequence[JobRecord], metric: str) -> Metrics | None:
    """Return the test metrics of each fold's epoch that tested best, mean over folds.

    None where a fold was not watched. Comparable with a run's ``separated`` metrics, never
    below them in ``metric``.
    """
    if not jobs or not all(job.oracle for job in jobs):
        return None
    best = [max(job.oracle, key=lambda row: row[metric]) for job in jobs]
    return {name: fmean(row[name] for row in best) for name in best[0] if name != "step"}
