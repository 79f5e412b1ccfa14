"""What a row took to make: its search and all its runs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.submissions.read import SubmittedRow

MEASURES = {"gpu_s": "GPU", "cpu_s": "CPU"}  # by which costs are compared; in this order
TOOK = ("cpu_s", "machine_s", "gpu_s", "package_j", "gpu_j")  # beside seconds; not all rows tell


def seconds_of(row: SubmittedRow) -> float:
    """Return the seconds of a row's trainings: what a rerun costs."""
    return sum(t.seconds for t in row.trials) + sum(r.seconds for r in row.runs.values())


def column_of(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the column by which a table of the leaderboard shows cost, and its heading.

    It is the cards' time where a row tells it, else the processors'. Seconds by the clock are no
    row's own: a training takes up to three times as many beside others.
    """
    name = "gpu_s" if any(row["gpu_s"] for row in rows) else "cpu_s"
    return name, f"{MEASURES[name]} s"


def took(row: SubmittedRow, name: str) -> float | None:
    """Return one of ``TOOK``, None where the row does not tell it."""
    told = row.cell.took if row.cell else None
    found: float | None = getattr(told, name) if told else None
    return found
