"""What is wrong with somebody else's rerun: who, when, and how many runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from benchmark.submissions import judging
from benchmark.submissions.provenance import Code
from benchmark.submissions.read import Rerun, SubmittedRow

Problem = tuple[str, str]  # message, path below the results folder
_ELSEWHERE = timedelta(days=1)  # by which a day may differ where the challenger lives


def faults(row: SubmittedRow, code: Code | None) -> Iterator[Problem]:
    """Yield challenges that are nobody's, of an impossible day, or without enough runs."""
    for rerun in row.reruns:
        path = f"{row.place}/{rerun.name}.toml"
        if not rerun.runs:
            yield "a challenge without runs of its own", path
        elif len(rerun.runs) < judging.MIN_RERUN and not row.fixed:
            yield f"one run decides nothing; expected {judging.MIN_RERUN} seeds or more", path
        if rerun.challenge and not judging.plain(rerun.challenge.who):
            yield f"who {rerun.challenge.who!r}: expected a name", path
        elif rerun.challenge and row.claim and judging.same_person(row, rerun):
            yield f"{rerun.challenge.who!r} made the claim too; somebody else must rerun it", path
        if fault := _day_fault(rerun, code):
            yield fault, path


def day_of(name: str) -> date | None:
    """Return the day in ``challenge-2026-01-31``, None for one that no calendar has."""
    try:
        return date.fromisoformat(name.removeprefix("challenge-"))
    except ValueError:
        return None


def _day_fault(rerun: Rerun, code: Code | None) -> str:
    """Return why a challenge cannot be of its day, empty if it can."""
    day = day_of(rerun.name)
    if day is None:
        return f"{rerun.name.removeprefix('challenge-')} is no day of any calendar"
    if day > datetime.now(UTC).date() + _ELSEWHERE:
        return f"{day} has not come yet"
    for run in rerun.runs.values():
        made = code.day(run.environment.commit) if code else None
        if made and day < made - _ELSEWHERE:
            return f"{day} is before {made}, the day of the commit that ran it"
    return ""
