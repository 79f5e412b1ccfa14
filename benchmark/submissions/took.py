"""What a row took to make: its search and all its runs together."""

from __future__ import annotations

import math

from benchmark.submissions.read import SubmittedRow

TOOK = ("cpu_s", "machine_s", "gpu_s", "package_j", "gpu_j")  # beside seconds; not all rows tell


def seconds_of(row: SubmittedRow) -> float:
    """Return the seconds of a row's trainings: what a rerun costs."""
    return sum(t.seconds for t in row.trials) + sum(r.seconds for r in row.runs.values())


def took(row: SubmittedRow, name: str) -> float | None:
    """Return a row's sum of one of ``TOOK``; None where a trial or run does not tell.

    What took no time has nothing to tell.
    """
    parts = [part for part in (*row.trials, *row.runs.values()) if part.seconds]
    known = [value for part in parts if (value := getattr(part, name)) is not None]
    return math.fsum(known) if known and len(known) == len(parts) else None
