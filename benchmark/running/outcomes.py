"""Records of trials, choices and runs, made from those of their jobs."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean
from typing import Any

from benchmark.study import failures, machines, places, selection, spending
from benchmark.study.folder import CellKey
from benchmark.study.records import ChoiceRecord, JobRecord, Metrics, RunRecord, TrialRecord
from benchmark.training.join import JoinOutcome
from benchmark.training.reasons import Fault
from protocols import paper
from protocols.protocol import Protocol
from protocols.space import Settings


def trial_of(
    cell: CellKey, number: int, settings: Settings, jobs: list[JobRecord], protocol: Protocol
) -> TrialRecord:
    """Return a trial's record: mean over folds of the best validation value, or the failure."""
    metric = protocol.selection_metric
    folds = [job.validation[metric] if job.validation else None for job in jobs]
    values = [value for value in folds if value is not None]
    failed = failures.decisive(jobs)
    return TrialRecord(
        id=places.trial_id(cell.id, number, settings),
        cell=cell.id,
        number=number,
        settings=settings,
        status="failed" if failed else "done",
        reason=failed.reason if failed else None,
        detail=_detail(failed),
        value=protocol.search.failed_score if failed else fmean(values),
        folds=folds,
        measured={
            **{name: _total(jobs, name) for name in ("seconds", "cpu_s")},
            **spending.spans_of(jobs),
            "environment": machines.merged(jobs),
        },
    )


def choice_of(
    cell: CellKey, best: TrialRecord | None, space: dict[str, dict[str, Any]]
) -> ChoiceRecord:
    """Return the choice of the best trial; without one there was nothing to search."""
    settings: Settings = best.settings if best else {}
    trial = best.number if best else None
    rule = selection.BEST_TRIAL if cell.searched else selection.NO_SEARCH
    return ChoiceRecord(
        id=places.choice_id(cell.id, rule, trial, settings),
        cell=cell.id,
        rule=rule,
        trial=trial,
        settings=settings,
        value=best.value if best else None,
        space=space,
    )


def published(cell: CellKey, protocol: Protocol) -> ChoiceRecord:
    """Return the paper's chosen setting as the choice; set_up has made sure that there is one."""
    settings: Settings = dict(paper.best(cell.method, cell.dataset, protocol.batch_size))
    return ChoiceRecord(
        id=places.choice_id(cell.id, selection.PUBLISHED, None, settings),
        cell=cell.id,
        rule=selection.PUBLISHED,
        trial=None,
        settings=settings,
        value=None,
    )


def run_of(
    cell: CellKey,
    settings: Settings,
    seed: int,
    jobs: list[JobRecord],
    joined: JoinOutcome | Fault | None,
) -> RunRecord:
    """Return the record of one seed from its fold jobs and, unless one failed, their join."""
    reason, detail = None, ""
    if failed := failures.decisive(jobs):
        reason, detail = failed.reason, _detail(failed)
    elif isinstance(joined, Fault):
        reason, detail = joined.reason, f"join: {joined.detail}"
    record = RunRecord(
        id=places.run_id(cell.id, seed, settings),
        cell=cell.id,
        seed=seed,
        settings=settings,
        status="done" if isinstance(joined, JoinOutcome) else "failed",
        reason=reason,
        detail=detail,
        folds=[job.test for job in jobs],
        best_steps=[job.best_step for job in jobs],
        phases=[job.phases for job in jobs],
        openings=[f"fold {job.fold}: {line}" for job in jobs for line in job.openings],
        counts=_sum_counts(jobs),
        measured=_sum_measured(jobs),
    )
    if not isinstance(joined, JoinOutcome):
        return record
    return replace(
        record,
        separated=_mean([job.test or {} for job in jobs]),
        concatenated=joined.metrics,
        measured={**record.measured, "join_s": joined.seconds},
        validation=_mean([job.validation or {} for job in jobs]),
        excluded=joined.excluded,
        ties=joined.ties,
        embeddings_sha256=joined.embeddings_sha256,
        embeddings_shape=joined.embeddings_shape,
        openings=[*record.openings, "test labels opened to score the joined embeddings"],
    )


def untried_run(cell: CellKey, seed: int, trials: list[TrialRecord]) -> RunRecord:
    """Return the record of a run that cannot start because no trial came through.

    It is the machine's failure if one of the trials is: that one may yet give a setting.
    """
    decisive = next((trial for trial in trials if failures.lost(trial)), trials[-1])
    detail = f"every trial of the search failed: {failures.in_words(trials)}"
    told = next((trial for trial in trials if trial.detail), None)
    if told:
        detail += f"; trial {told.number}, {told.detail}"
    return replace(run_of(cell, {}, seed, [], None), reason=decisive.reason, detail=detail)


def _detail(failed: JobRecord | None) -> str:
    """Return at which fold a trial or run failed and by what, "" where none did."""
    return f"fold {failed.fold}: {failed.detail}" if failed else ""


def _mean(rows: list[Metrics]) -> Metrics:
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def _sum_counts(jobs: list[JobRecord]) -> dict[str, int]:
    """Return images summed over folds, and parameters of one fold's network."""
    total: dict[str, int] = {}
    for job in jobs:
        for name, count in job.counts.items():
            total[name] = count if name.startswith("parameters") else total.get(name, 0) + count
    return total


def _sum_measured(jobs: list[JobRecord]) -> dict[str, Any]:
    """Return seconds summed over folds, all spans, the largest memory peak, what they ran on."""
    if not jobs:
        return {}
    times = {name: _total(jobs, name) for name in ("seconds", "cpu_s", "train_s")}
    peak = max(job.measured.get("peak_memory_mb", 0) for job in jobs)
    when = spending.spans_of(jobs)
    return {**times, **when, "peak_memory_mb": peak, "environment": machines.merged(jobs)}


def _total(jobs: list[JobRecord], name: str) -> float:
    return round(math.fsum(job.measured.get(name, 0.0) for job in jobs), 3)
