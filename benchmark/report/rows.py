"""A study's methods as rows: numbers from the frames, the rest from one read of the records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from benchmark.report.charts import Mark, number
from benchmark.statistics.words import is_near_miss
from benchmark.study import failures
from benchmark.study.folder import CellKey, Study, stands_aside
from benchmark.study.records import ChoiceRecord, RunRecord, TrialRecord
from benchmark.study.scores import HEADLINE, HEADLINE_METRIC, Part
from benchmark.tables.captions import spoken_of
from benchmark.tables.diagnostics import Edge, PhaseCount, edges, phase_counts, space_of
from benchmark.tables.frames import Tables, baseline_names
from benchmark.tables.results import CellResults

Place = tuple[str, str, str]


@dataclass(frozen=True)
class Score:
    """A mean over runs, in per cent, and half-widths of its intervals; None where there is none.

    ``half`` is of the seeds; ``over_classes`` of the test classes, runs and gallery as they are.
    """

    mean: float
    half: float | None
    over_classes: float | None = None


@dataclass(frozen=True)
class MethodRow:
    """A method in one dataset, trunk and recipe.

    Attributes:
        key: its cell.
        role: ``baseline``, ``reference``, what it was told beside images and labels, or empty.
        runs: the runs that have ended, failed ones too.
        choice: the setting that was chosen, None during the search.
        identity: what the cell is made of.
        trials: of its search, in order, failed ones too.
        scores: empty unless all runs have ended and one has numbers.
        mark: MAP@R of the joined embeddings; single seeds also while runs are missing.
        kind: of the interval.
        reason: why there is no number.
        asked: how many runs it has.
    """

    key: CellKey
    role: str
    runs: list[RunRecord]
    choice: ChoiceRecord | None
    identity: Mapping[str, Any]
    trials: Sequence[TrialRecord]
    scores: Mapping[Part, Score]
    mark: Mark
    kind: str
    reason: str
    asked: int

    @property
    def name(self) -> str:
        """Return the name that the tables use."""
        return self.key.row

    @property
    def main(self) -> Score | None:
        """Return MAP@R of the joined embeddings."""
        return self.scores.get(HEADLINE)

    def reported(self, metric: str) -> Score | None:
        """Return a metric of the joined embeddings that is shown and not compared."""
        return self.scores.get(("concatenated", metric))

    @property
    def gain(self) -> float | None:
        """Return what joining the fold models adds to the headline metric, in points."""
        alone = self.scores.get(("separated", HEADLINE_METRIC))
        return self.main.mean - alone.mean if self.main and alone else None

    @property
    def words(self) -> str:
        """Return the row's mark, for readers who do not see it."""
        if self.main is None:
            return f"{self.name}: {self.reason}"
        half = self.main.half
        around = ", no interval" if half is None else f" plus or minus {number(half)}"
        return f"{self.name}: mean {number(self.main.mean)}{around}"

    @property
    def done(self) -> list[RunRecord]:
        """Return the runs that have numbers."""
        return [run for run in self.runs if run.status == "done"]

    @property
    def search_s(self) -> float | None:
        """Return the seconds of its search, None where there is none or they are not known."""
        seconds = [trial.measured.get("seconds") for trial in self.trials]
        known = [float(value) for value in seconds if value is not None]
        return math.fsum(known) if known and len(known) == len(seconds) else None

    @property
    def edges(self) -> list[Edge]:
        """Return the chosen settings that sit on a bound of what was searched."""
        return edges(self.choice.settings, space_of(self.choice)) if self.choice else []

    @property
    def phases(self) -> list[PhaseCount]:
        """Return which phases the finished runs' trainings reached."""
        return phase_counts(self.done)

    @property
    def failed(self) -> list[RunRecord]:
        """Return the runs that failed."""
        return [run for run in self.runs if run.status == "failed"]

    @property
    def lost(self) -> list[TrialRecord]:
        """Return the trials that the machine lost."""
        return failures.split(self.trials)[1]

    def mean(self, name: str) -> float | None:
        """Return the mean over runs of a count or a measured value, None where none has it."""
        values = [{**run.counts, **run.measured}.get(name) for run in self.done]
        known = [float(value) for value in values if value is not None]
        return fmean(known) if known else None


@dataclass(frozen=True)
class Pair:
    """A comparison of the joined embeddings' MAP@R.

    Attributes:
        other: what the method is compared with.
        mark: method minus other, in points.
        n: seeds that both have.
        p: adjusted; None where it is not tested or outside the family.
        p_note: the sign-flip p beside it, or why there is none.
        verdict: one of the five words; empty outside the family.
        spoken: the verdict with why it is not tested, or with the p of a near miss.
        together: half-width in points of the interval that holds for the whole family.
        unequal: why Student's t was not trusted; empty where it was.
    """

    other: str
    mark: Mark
    n: int
    p: float | None
    p_note: str
    verdict: str
    spoken: str = ""
    together: float | None = None
    unequal: str = ""

    @property
    def interval(self) -> str:
        """Return the ends of the difference's interval, empty where it has none."""
        if self.mark.low is None:
            return ""
        low, high = (number(end, signed=True) for end in (self.mark.low, self.mark.high))
        return f"[{low}, {high}]"

    @property
    def words(self) -> str:
        """Return the pair's mark, for readers who do not see it."""
        points = f"{number(self.mark.mean, signed=True)} points"
        ends, said = self.interval or "without interval", self.spoken or "outside the family"
        return f"{self.mark.name} minus {self.other}: {points} {ends}, {said}"


def rows(frames: Tables) -> dict[Place, list[MethodRow]]:
    """Return the methods of each dataset, trunk and recipe, best first, unfinished ones last."""
    summary = _grouped(frames.summary)
    by_place: dict[Place, list[MethodRow]] = {}
    for cell in sorted(frames.cells, key=lambda cell: cell.key.axes):
        at = (cell.key.dataset, cell.key.trunk, cell.key.recipe, cell.key.row)
        row = _row(frames.study, cell, summary.get(at, []))
        by_place.setdefault(at[:3], []).append(row)
    for group in by_place.values():
        group.sort(key=_rank)
    return by_place


def _rank(row: MethodRow) -> tuple[bool, bool, float, str]:
    """Return what sorts complete methods first, best first, then those with failed runs."""
    return (not row.main, bool(row.failed), -row.main.mean if row.main else 0.0, row.name)


def pairs(frames: Tables, finished: Mapping[Place, Sequence[str]]) -> dict[Place, list[Pair]]:
    """Return the declared comparisons between finished methods, in the order of the methods.

    Where there is a baseline, the references against it follow, which have no verdict.
    """
    frame = frames.pairs
    main = frame[(frame["embedding"] == HEADLINE[0]) & (frame["metric"] == HEADLINE[1])]
    bases = baseline_names(frames.study)
    references = {
        (c.dataset, c.trunk, c.recipe, c.row)
        for c in frames.study.cells
        if stands_aside(c, frames.study.protocol)
    }
    by_place: dict[Place, list[Pair]] = {}
    for row in main.itertuples(index=False):
        place = (str(row.dataset), str(row.trunk), str(row.recipe))
        names = finished.get(place, ())
        sanity = (*place, row.method_a) in references and bases.get(place) == row.method_b
        ours = isinstance(row.family, str) or sanity
        if ours and row.method_a in names and row.method_b in names and row.n:
            by_place.setdefault(place, []).append(_pair(row))
    for place, group in by_place.items():
        order = {name: rank for rank, name in enumerate(finished[place])}
        group.sort(key=lambda pair: (order[pair.mark.name], order[pair.other]))
    return by_place


def _row(study: Study, cell: CellResults, summary: Sequence[Any]) -> MethodRow:
    protocol, key, runs = study.protocol, cell.key, cell.runs
    record = study.cell_record(key)
    done = [run for run in runs if run.status == "done"]
    finished = len(runs) == study.runs_asked(key) and bool(done)
    scores = {
        (str(row.embedding), str(row.metric)): Score(
            100 * row.mean, _half(row.ci_low, row.ci_high), _half(row.test_ci_low, row.test_ci_high)
        )
        for row in summary
        if finished and not math.isnan(row.mean)
    }
    main = next((row for row in summary if (row.embedding, row.metric) == HEADLINE), None)
    reason = "" if finished else _reason(study, key, runs, len(cell.trials))
    dots = tuple(100 * run.concatenated[HEADLINE_METRIC] for run in done if run.concatenated)
    role = "reference" if stands_aside(key, protocol) else f"told {key.side}" * bool(key.side)
    return MethodRow(
        key=key,
        role="baseline" if key.method == protocol.baseline else role,
        runs=runs,
        choice=cell.choice,
        identity=record.identity if record else {},
        trials=cell.trials,
        scores=scores,
        mark=_mark(key.row, main if finished else None, "mean", dots, reason),
        kind=str(main.ci_kind) if finished and main else "",
        reason=reason,
        asked=study.runs_asked(key),
    )


def _reason(study: Study, key: CellKey, runs: Sequence[RunRecord], trials: int) -> str:
    """Return why a method has no number yet, or none at all."""
    asked, budget = study.runs_asked(key), study.trials_asked(key)
    if runs and len(runs) == asked:
        met = ", ".join(sorted({run.reason or "unknown" for run in runs}))
        return f"all {asked} runs failed: {met}" if asked > 1 else f"the run failed: {met}"
    if runs:
        failed = sum(run.status == "failed" for run in runs)
        return f"{len(runs)} of {asked} runs ended" + (f", {failed} failed" if failed else "")
    if key.searched and trials < budget:
        return f"search: {trials} of {budget} trials" if trials else "not started"
    return "no run has ended yet"


def _pair(row: Any) -> Pair:
    verdict = row.verdict if isinstance(row.verdict, str) else ""
    said = spoken_of(row) if verdict else ""
    return Pair(
        other=str(row.method_b),
        mark=_mark(str(row.method_a), row, "mean_difference", (), ""),
        n=int(row.n),
        p=None if math.isnan(row.p_holm) else float(row.p_holm),
        p_note=row.p_note
        if isinstance(row.p_note, str)
        else f"by sign flips, unadjusted: {row.p_sign_flip:.4f}",
        verdict=verdict,
        spoken=f"{said}, p {row.p_holm:.2f}" if is_near_miss(verdict, row.p_holm) else said,
        together=_half(row.ci_low_family, row.ci_high_family),
        unequal=row.mark if isinstance(row.mark, str) else "",
    )


def _mark(name: str, row: Any, column: str, dots: tuple[float, ...], note: str) -> Mark:
    """Return a row of a frame as a mark in per cent; None gives one without mean."""
    wanted = (column, "ci_low", "ci_high")
    values = [math.nan if row is None else float(getattr(row, c)) for c in wanted]
    mean, low, high = (None if math.isnan(v) else 100 * v for v in values)
    return Mark(name, mean, low, high, dots, note)


def _half(low: float, high: float) -> float | None:
    half = float(high - low) / 2
    return None if math.isnan(half) else 100 * half


def _grouped(frame: Any) -> dict[tuple[str, str, str, str], list[Any]]:
    """Return the rows of a frame by dataset, trunk, recipe and method."""

    def cell_of(row: Any) -> tuple[str, str, str, str]:
        return (str(row.dataset), str(row.trunk), str(row.recipe), str(row.method))

    groups: dict[tuple[str, str, str, str], list[Any]] = {}
    for at, group in groupby(frame.itertuples(index=False), key=cell_of):
        groups.setdefault(at, []).extend(group)
    return groups
