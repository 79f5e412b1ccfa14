"""Whose failure it is: the machine's, which says nothing of a method, or the method's own.

The same job on a machine that is not full, broken or busy would have given a result: what the
machine lost can be done again (``run --retry-failed``). What a method did itself, it does again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from benchmark.study.records import JobRecord, Reason, RunRecord, TrialRecord

# Memory ran out; the process or its device died, or the system refused it a file or a thread;
# the job was killed at its time limit; data that was whole at the start could not be read.
MACHINES: frozenset[Reason] = frozenset({"oom", "crash", "timeout", "bad_data"})
# A loss that is not finite; an exception of the code.
METHODS: frozenset[Reason] = frozenset({"non_finite", "error"})
# Tried again at once, as often as the protocol says.
RETRIED: frozenset[Reason] = frozenset({"oom", "crash", "timeout"})

Failing = TypeVar("Failing", JobRecord, TrialRecord, RunRecord)


def lost(record: JobRecord | TrialRecord | RunRecord) -> bool:
    """Return whether the machine lost what ``record`` is about."""
    return record.status == "failed" and record.reason in MACHINES


def untried(run: RunRecord | None) -> bool:
    """Return whether a run of a search failed because no trial came through."""
    return run is not None and run.status == "failed" and not run.settings


def decisive(jobs: Sequence[JobRecord]) -> JobRecord | None:
    """Return the job for which a trial or run failed, None if no job did.

    That of the method comes first: it would have failed on any machine.
    """
    failed = [job for job in jobs if job.status == "failed"]
    return min(failed, key=lost, default=None)


def split(records: Sequence[Failing]) -> tuple[list[Failing], list[Failing]]:
    """Return the failed records that are the method's, and those that the machine lost."""
    failed = [record for record in records if record.status == "failed"]
    own = [record for record in failed if not lost(record)]
    return own, [record for record in failed if lost(record)]


def in_words(records: Sequence[Failing]) -> str:
    """Return how many records there are for each reason, for example ``2 oom, 1 crash``."""
    reasons = [record.reason or "unknown" for record in records]
    counts = ((reason, reasons.count(reason)) for reason in dict.fromkeys(reasons))
    return ", ".join(f"{count} {reason}" for reason, count in counts)
