"""What a row took to make: its search and all its runs together."""

from __future__ import annotations

import math

from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Measured

TOOK = ("cpu_s", "machine_s", "gpu_s", "package_j", "gpu_j")  # beside seconds; not all rows tell


def seconds_of(row: SubmittedRow) -> float:
    """Return the seconds of a row's trainings: what a rerun costs."""
    return sum(t.seconds for t in row.trials) + sum(r.seconds for r in row.runs.values())


def took(row: SubmittedRow, name: str) -> float | None:
    """Return a row's sum of one of ``TOOK``; None where the search or a run does not tell.

    What took no time has nothing to tell.
    """
    parts: list[Measured] = [run for run in row.runs.values() if run.seconds]
    if row.trials:
        told = row.cell.search if row.cell else None
        parts.append(told or Measured(seconds=sum(t.seconds for t in row.trials)))
    known = [value for part in parts if (value := getattr(part, name)) is not None]
    return math.fsum(known) if known and len(known) == len(parts) else None
