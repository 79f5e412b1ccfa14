"""What a study spent: job seconds, machine and GPU time, joules; None where records do not say.

One rule for all that jobs share: every moment of a machine, and of a card, is split evenly among
the jobs of the study that ran there in it, and so are the joules that the machine's packages and
the card count meanwhile. Parts therefore add up to the whole: the time in which at least one job
ran, and what was counted in it. What else ran on the machine is counted with it. Time in which no
job ran (starting, tables) and what a job that was lost had spent are in no sum.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

from benchmark.study.folder import Study
from benchmark.study.records import JobRecord, RunRecord, TrialRecord

Span = Mapping[str, Any]  # machine, start, end; card of a GPU job; package_j, card_j where told
Record = TrialRecord | RunRecord
TO_HOURS = 1 / 3600  # of seconds; of joules it makes Wh


@dataclass(frozen=True)
class Spent:
    """What records spent together.

    Attributes:
        seconds: of the jobs, one after the other.
        cpu_s: of processor time.
        machine_s: the jobs' part of the machines' time.
        gpu_s: their part of the cards' time, 0 for jobs on the CPU.
        package_j: their part of what the processor packages counted, J.
        gpu_j: their part of what the cards counted, J; None for jobs on the CPU.
    """

    seconds: float
    cpu_s: float | None
    machine_s: float | None
    gpu_s: float | None
    package_j: float | None
    gpu_j: float | None


NAMES = tuple(field.name for field in fields(Spent))
Price = tuple[float, str]  # of a machine's hour, and the currency
_Stretch = tuple[str, float, float]  # a place, and from when to when; equal ones have equal parts


class Spending:
    """What each record of a study spent.

    Args:
        records: every trial and run of the study, because they share its machines.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        spans = [span for record in records for span in record.measured.get("spans", ())]
        self._machine = _shares(spans, "machine")
        self._card = _shares([span for span in spans if "card" in span], "card")

    def of(self, records: Sequence[Record]) -> Spent:
        """Return what some of the records spent; those that spent nothing need not say it."""
        said = [record.measured for record in records if record.measured.get("seconds")]
        whole = all("spans" in measured for measured in said)
        spans = [span for measured in said for span in measured.get("spans", ())]
        cards = [span for span in spans if "card" in span]
        machine_s = math.fsum(self._machine[_stretch(span, "machine")] for span in spans)
        gpu_s = math.fsum(self._card[_stretch(span, "card")] for span in cards)
        return Spent(
            seconds=math.fsum(measured["seconds"] for measured in said),
            cpu_s=_sum([measured.get("cpu_s") for measured in said]),
            machine_s=machine_s if whole else None,
            gpu_s=gpu_s if whole else None,
            package_j=_joules(spans, "package_j", "machine", self._machine) if whole else None,
            gpu_j=_joules(cards, "card_j", "card", self._card) if whole else None,
        )


def spending(study: Study) -> Spending:
    """Return what the records of a study spent, those of further searches too."""
    found: list[Record] = []
    for key in study.all_cells:
        found += [*study.trials(key), *study.runs(key)]
    return Spending(found)


def spans_of(jobs: Sequence[JobRecord]) -> dict[str, Any]:
    """Return the spans of jobs under ``spans``; nothing where one worked and does not say when."""
    said = [job.measured for job in jobs if job.measured.get("seconds")]
    if not said or not all("spans" in measured for measured in said):
        return {}
    return {"spans": [span for measured in said for span in measured["spans"]]}


def _joules(
    spans: Sequence[Span], name: str, place: str, shares: Mapping[_Stretch, float]
) -> float | None:
    """Return the spans' parts of what was counted; None if one does not tell, or none is there."""
    parts: list[float | None] = [
        None if name not in span else span[name] * shares[_stretch(span, place)] / length
        for span in spans
        if (length := span["end"] - span["start"]) > 0
    ]
    return _sum(parts) if parts else None


def _stretch(span: Span, place: str) -> _Stretch:
    return span[place], span["start"], span["end"]


def _shares(spans: Sequence[Span], place: str) -> dict[_Stretch, float]:
    """Return each span's seconds of its place, every moment split evenly among those there."""
    at: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        at[span[place]].append(span)
    found = {}
    for those in at.values():
        change: dict[float, int] = defaultdict(int)
        for span in those:
            change[span["start"]] += 1
            change[span["end"]] -= 1
        moments = sorted(change)
        running = list(accumulate(change[moment] for moment in moments))
        steps = [
            (after - before) / count if count > 0 else 0.0
            for before, after, count in zip(moments, moments[1:], running, strict=False)
        ]
        until = dict(zip(moments, accumulate(steps, initial=0.0), strict=True))
        for span in those:
            found[_stretch(span, place)] = until[span["end"]] - until[span["start"]]
    return found


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None
