"""Validation during the final trainings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.report.charts import XY, Panel, Plot, spanning, thinned, whole
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import JobRecord
from benchmark.study.scores import label_of


@dataclass(frozen=True)
class Learning:
    """Charts of final trainings, and how many of them were best at their last validation."""

    charts: tuple[Plot, ...]
    trainings: int
    still_rising: int


def learning(
    study: Study, cells: Sequence[CellKey], baseline: CellKey | None, seeds: int
) -> Learning:
    """Return validation against the step, for the first ``seeds`` seeds.

    Values are of the metric that chose the epoch, in per cent.
    """
    metric = study.protocol.selection_metric
    jobs = {cell: _final_jobs(study, cell, seeds) for cell in cells if cell.trains}
    curves = {cell: [_validations(job, metric) for job in found] for cell, found in jobs.items()}
    points = [point for group in curves.values() for curve in group for point in curve]
    panel = Panel(whole(x for x, _ in points), spanning((y for _, y in points), count=4))
    means = {cell: thinned(mean_curve(group)) for cell, group in curves.items()}
    charts = []
    for cell, group in curves.items():
        if not group:
            continue
        dots = [_kept(job, curve) for job, curve in zip(jobs[cell], group, strict=True)]
        mean, other = means[cell], means.get(baseline, ()) if baseline else ()
        ends = f", mean {mean[0][1]:.1f} to {mean[-1][1]:.1f} per cent" if mean else ""
        charts.append(
            Plot(
                name=cell.row,
                panel=panel,
                thin=tuple(thinned(curve) for curve in group),
                thick=mean,
                dashed=() if cell == baseline else other,
                dots=tuple(filter(None, dots)),
                words=f"{cell.row}: validation {label_of(metric)} of {len(group)} trainings{ends}",
            )
        )
    ran = [job for found in jobs.values() for job in found if job.steps]
    rising = sum(job.best_step == job.history[-1].get("step") for job in ran)
    return Learning(tuple(charts), len(ran), rising)


def mean_curve(curves: Sequence[Sequence[XY]]) -> list[XY]:
    """Return the mean over curves at the x values that all of them have.

    A training that stopped early ends the mean: one over the survivors would rise or fall
    only because of who is left.
    """
    at = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(c) for c in at))) if at else []
    return [(x, math.fsum(c[x] for c in at) / len(at)) for x in shared]


def _final_jobs(study: Study, cell: CellKey, seeds: int) -> list[JobRecord]:
    """Return the first seeds' fold trainings that have been validated at least once."""
    metric = study.protocol.selection_metric
    jobs = (job for seed in range(seeds) for job in study.jobs(cell, "final", seed))
    return [job for job in jobs if job and _validations(job, metric)]


def _validations(job: JobRecord, metric: str) -> list[XY]:
    rows = [row for row in job.history if "step" in row and metric in row]
    return [(row["step"], 100 * row[metric]) for row in rows]


def _kept(job: JobRecord, curve: Sequence[XY]) -> XY | None:
    return next((point for point in curve if point[0] == job.best_step), None)
