"""What happened on the way to the numbers: validation during training, and the searches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.records import JobRecord
from benchmark.report.charts import XY, Axis, Panel, spanning
from benchmark.study import CellKey, Study
from benchmark.tables import HEADLINE_METRIC

MAX_POINTS = 80  # of one curve


@dataclass(frozen=True)
class Curves:
    """A small chart: paths and dots on a panel's canvas.

    Attributes:
        name: of the method.
        panel: its axes, the same for all charts beside each other.
        thin: single trainings.
        thick: their mean, or the best so far of a search.
        dashed: the baseline's thick line, empty in the baseline's own chart.
        dots: kept steps of trainings, or values of trials.
        crosses: failed trials.
        ring: the chosen trial.
        words: what is seen, for readers who do not see.
    """

    name: str
    panel: Panel
    thin: tuple[str, ...] = ()
    thick: str = ""
    dashed: str = ""
    dots: tuple[XY, ...] = ()
    crosses: tuple[XY, ...] = ()
    ring: XY | None = None
    words: str = ""


@dataclass(frozen=True)
class Learning:
    """Charts of final trainings, and how many of them were best at their last validation."""

    charts: tuple[Curves, ...]
    trainings: int
    still_rising: int


def learning(
    study: Study, cells: Sequence[CellKey], baseline: CellKey | None, seeds: int
) -> Learning:
    """Return validation MAP@R in per cent against the step, for the first ``seeds`` seeds."""
    jobs = {cell: _final_jobs(study, cell, seeds) for cell in cells if cell.trains}
    curves = {cell: [_validations(job) for job in found] for cell, found in jobs.items()}
    points = [point for group in curves.values() for curve in group for point in curve]
    panel = Panel(_whole(x for x, _ in points), spanning((y for _, y in points), count=4))
    means = {cell: thin(mean_curve(group)) for cell, group in curves.items()}
    charts = []
    for cell, group in curves.items():
        if not group:
            continue
        dots = [_kept(job, curve) for job, curve in zip(jobs[cell], group, strict=True)]
        mean, other = means[cell], means.get(baseline, []) if baseline else []
        ends = f", mean {mean[0][1]:.1f} to {mean[-1][1]:.1f} per cent" if mean else ""
        charts.append(
            Curves(
                name=cell.row,
                panel=panel,
                thin=tuple(panel.line(thin(curve)) for curve in group),
                thick=panel.line(mean),
                dashed="" if cell == baseline else panel.line(other),
                dots=tuple((panel.px(x), panel.py(y)) for x, y in filter(None, dots)),
                words=f"{cell.row}: validation MAP@R of {len(group)} trainings{ends}",
            )
        )
    ran = [job for found in jobs.values() for job in found if job.steps]
    rising = sum(job.best_step == job.history[-1].get("step") for job in ran)
    return Learning(tuple(charts), len(ran), rising)


def searches(trials: Mapping[str, Sequence[Any]]) -> tuple[Curves, ...]:
    """Return validation values in per cent against the trial, and the best so far.

    Args:
        trials: rows of the frame ``trials`` for each method of one dataset, trunk and recipe.
    """
    done = {
        name: [(row.number, 100 * row.value) for row in rows if row.status == "done"]
        for name, rows in trials.items()
    }
    points = [point for group in done.values() for point in group]
    numbers = (row.number for rows in trials.values() for row in rows)
    panel = Panel(_whole(numbers), spanning((y for _, y in points), count=4))
    charts = []
    for name, rows in trials.items():
        if not rows:
            continue
        best = best_so_far(done[name])
        last = [(rows[-1].number, best[-1][1])] if best else []
        chosen = next(((t.number, 100 * t.value) for t in rows if t.chosen), None)
        failed = [panel.px(t.number) for t in rows if t.status != "done"]
        told = f", best {best[-1][1]:.1f} per cent" if best else ""
        charts.append(
            Curves(
                name=name,
                panel=panel,
                thick=panel.line(thin([*best, *last]), steps=True),
                dots=tuple((panel.px(x), panel.py(y)) for x, y in thin(done[name])),
                crosses=tuple((x, panel.height - panel.bottom - 4) for x in failed),
                ring=(panel.px(chosen[0]), panel.py(chosen[1])) if chosen and best else None,
                words=f"{name}: {len(rows)} trials, {len(failed)} failed{told}",
            )
        )
    return tuple(charts)


def mean_curve(curves: Sequence[Sequence[XY]]) -> list[XY]:
    """Return the mean over curves at the x values that all of them have.

    A training that stopped early ends the mean: one over the survivors would rise or fall
    only because of who is left.
    """
    at = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(c) for c in at))) if at else []
    return [(x, math.fsum(c[x] for c in at) / len(at)) for x in shared]


def best_so_far(values: Sequence[XY]) -> list[XY]:
    """Return the running maximum of a search."""
    found: list[XY] = []
    for x, y in values:
        found.append((x, max(y, found[-1][1]) if found else y))
    return found


def thin(points: Sequence[XY]) -> list[XY]:
    """Return at most ``MAX_POINTS`` of a curve's points, first and last included."""
    if len(points) <= MAX_POINTS:
        return list(points)
    stride = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(k * stride)] for k in range(MAX_POINTS)]


def _final_jobs(study: Study, cell: CellKey, seeds: int) -> list[JobRecord]:
    """Return the first seeds' fold trainings that have been validated at least once."""
    jobs = (job for seed in range(seeds) for job in study.jobs(cell, "final", seed))
    return [job for job in jobs if job and _validations(job)]


def _validations(job: JobRecord) -> list[XY]:
    rows = [row for row in job.history if "step" in row and HEADLINE_METRIC in row]
    return [(row["step"], 100 * row[HEADLINE_METRIC]) for row in rows]


def _kept(job: JobRecord, curve: Sequence[XY]) -> XY | None:
    return next((point for point in curve if point[0] == job.best_step), None)


def _whole(values: Iterable[float]) -> Axis:
    """Return an axis from 0 or the lowest value with ticks at whole numbers."""
    reached = list(values)
    high = max(reached, default=1.0)
    axis = spanning([0.0, high or 1.0], zero=True, count=4)
    ticks = tuple(tick for tick in axis.ticks if tick == int(tick) and tick <= (high or 1.0))
    return Axis(0.0, (high or 1.0), ticks)
