"""The main job as a list of steps: names -> plan -> checks -> work -> tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmark.commands.proposal import next_command
from benchmark.engines.machine import check_disk, interruptible, lock
from benchmark.exit_codes import DONE, FAILED_JOBS
from benchmark.running.progress import Progress, duration
from benchmark.running.setup import Asked, Ready, make_ready, set_up, unmoved_by_bounds
from benchmark.study import grid
from benchmark.study.folder import CellKey, Study
from benchmark.study.grid import CellPlan
from benchmark.study.looks import plan_seeds
from benchmark.study.scores import NOTHING
from protocols.protocol import protocol_line
from protocols.space import Settings, Space

if TYPE_CHECKING:
    from benchmark.engines.local import Engine
    from benchmark.mirror.tracking import Tracker
    from benchmark.running.coordinator import JobMaker

MIRROR_TIMEOUT_S = 60.0
NAMED = 3  # cells in a note; the rest are counted
Kind = tuple[str, str, str, bool]  # dataset, trunk, recipe, trains: jobs that take alike


def run(args: argparse.Namespace) -> int:
    """Plan, do what is missing, tabulate; return the exit code."""
    if args.dry_run:
        return plan(args)
    console, asked = Console(), set_up(args)
    study = asked.study
    check_disk(study.out)
    with lock(study.out), interruptible():
        for cell in asked.keys:
            if damaged := study.set_aside_damaged(cell):
                console.print(f"{damaged} damaged record(s) of {cell.row}: kept aside, redone")
        plans = grid.progress_of(study, asked.keys)
        tracker = open_tracker(console, study, plans)
        if any(item.state != "done" for item in plans):
            ready = make_ready(asked)
            check_jobs(asked, ready, plans)
            work(console, asked, ready, plans, tracker)
        else:
            console.print(f"nothing left to do in {study.out}", highlight=False)
            study.save()
            grid.save_cells(study, asked.cells)
        artifacts = write_outputs(study)
        tracker.finish(artifacts, MIRROR_TIMEOUT_S)
    return show_results(console, asked)


def plan(args: argparse.Namespace) -> int:
    """Print the grid, each cell's state, jobs left and the expected time."""
    if getattr(args, "detect", None):
        from benchmark.commands.detect import detect

        return detect(args)
    console, asked = Console(), set_up(args)
    plans = grid.progress_of(asked.study, asked.keys)
    if not any(item.jobs_left for item in plans):
        show_cells(console, asked.study, plans)
        console.print("nothing left to do")
        return DONE
    ready = make_ready(asked)
    check_jobs(asked, ready, plans)
    few = None if ready.workers is None else min(2, ready.workers)  # that many measure the time
    with engine_for(asked, replace(ready, workers=few)) as engine:
        seconds = expected_seconds(asked, ready, plans, engine)
        show_cells(console, asked.study, plans)
        show_phases(console, asked, plans)
        show_expected(console, plans, seconds, ready.workers or engine.capacity, ready.device)
    return DONE


def work(
    console: Console, asked: Asked, ready: Ready, plans: list[CellPlan], tracker: Tracker
) -> None:
    """Do all missing jobs of the plan."""
    study = asked.study
    with engine_for(asked, ready) as engine:
        # Imported only now: workers load torch while this process loads optuna, and a folder
        # with nothing left to do needs neither.
        from benchmark.running import flows
        from benchmark.running.coordinator import Coordinator

        seconds = expected_seconds(asked, ready, plans, engine)
        show_cells(console, study, plans)
        show_phases(console, asked, plans)
        show_expected(console, plans, seconds, engine.capacity, ready.device)
        study.save()
        plan_seeds(study)
        grid.save_cells(study, asked.cells)
        log, make_job = study.out / "log.txt", job_maker(asked, ready)
        metric = study.protocol.selection_metric
        with Progress(console, plans, log, engine.capacity, seconds, metric) as progress:
            coordinator = Coordinator(study, make_job, space_of(asked), tracker, progress)
            flows.run(coordinator.flows(asked.keys), engine)


def check_jobs(asked: Asked, ready: Ready, plans: list[CellPlan]) -> None:
    """Raise InvalidInputError before anything starts where jobs could only fail or say nothing."""
    from benchmark.running.phases import timetables

    timetables(asked, plans)
    check_trunks(asked, ready, plans)


def check_trunks(asked: Asked, ready: Ready, plans: list[CellPlan]) -> None:
    """Raise InvalidInputError before anything starts where jobs could only fail.

    That is a trunk that cannot give what a method wants, or weights that do not fit it.
    """
    from benchmark.training.job import serving_trunk
    from protocols.method import Wants

    make, loaded = job_maker(asked, ready), set()
    for item in plans:
        if not item.jobs_left:
            continue
        job = make(item.cell, "search", 0, 0, {})
        if job.weights is not None and item.cell.trunk not in loaded:
            loaded.add(item.cell.trunk)
            serving_trunk(job)
        elif asked.registry.load("method", item.cell.method).wants != Wants():
            serving_trunk(replace(job, weights=None))


def open_tracker(console: Console, study: Study, plans: list[CellPlan]) -> Tracker:
    """Return the MLflow mirror, or nothing where all is done and mirrored."""
    from benchmark.mirror.tracking import Mirror, NoTracker, needs_sync

    if all(item.state == "done" for item in plans) and not needs_sync(study):
        return NoTracker()
    return Mirror(study, lambda text: console.print(text, highlight=False, markup=False))


@contextmanager
def engine_for(asked: Asked, ready: Ready) -> Iterator[Engine]:
    """Yield workers, with the datasets decoded for them; kill them at the end."""
    from benchmark.training import splits

    asked.study.out.mkdir(parents=True, exist_ok=True)
    engine = make_engine(asked, ready)
    try:
        engine.start()
        for source in asked.sources.values():
            splits.prepare(source, asked.study.protocol)
        yield engine
    finally:
        engine.close()


def make_engine(asked: Asked, ready: Ready) -> Engine:
    """Return the engine that was asked for."""
    options, threads = asked.options, asked.study.protocol.threads_per_job
    log, strict = asked.study.out / "workers.txt", options.deterministic
    if options.engine == "ray":
        from benchmark.engines.ray_cluster import RayEngine

        gpus = options.gpus_per_job if ready.device == "cuda" else 0.0
        return RayEngine(ready.workers, threads, gpus, log, deterministic=strict)
    from benchmark.engines.local import LocalEngine

    workers = ready.workers or 1  # make_ready counts those of this machine
    return LocalEngine(
        workers,
        threads,
        log,
        deterministic=strict,
        devices=ready.devices,
        environment=asked.environment,
    )


def job_maker(asked: Asked, ready: Ready) -> JobMaker:
    """Return what builds this study's jobs."""
    from benchmark.training.job import Job

    def make(cell: CellKey, stage: str, number: int, fold: int, settings: Settings) -> Job:
        return Job(
            cell=cell,
            protocol=asked.study.protocol.on(cell.dataset),
            recipe=asked.recipes[cell.recipe],
            stage=stage,
            number=number,
            fold=fold,
            settings=settings,
            source=asked.sources[cell.dataset],
            device=ready.device,
            weights=asked.weights,
            plugins=asked.registry.plugins,
        )

    return make


def space_of(asked: Asked) -> Callable[[CellKey], Space]:
    """Return what looks up a cell's search space."""

    def look_up(cell: CellKey) -> Space:
        method = asked.registry.load("method", cell.method)
        space: Space = method.space(cell.dataset, asked.study.protocol.search.bounds)
        return space

    return look_up


def expected_seconds(
    asked: Asked, ready: Ready, plans: list[CellPlan], engine: Engine
) -> dict[str, float]:
    """Return the seconds of a job by cell id, measured once per kind of network.

    Cells whose job cannot be measured are missing; running them says why.
    """
    from benchmark.training.timing import job_seconds

    make = job_maker(asked, ready)
    kinds: dict[Kind, CellKey] = {}
    for item in plans:
        if item.jobs_left:
            kinds.setdefault(_kind(item.cell), item.cell)
    measured: dict[Kind, float | None] = {}
    waiting = list(kinds)
    while waiting:
        some, waiting = waiting[: engine.capacity], waiting[engine.capacity :]
        futures = {k: engine.submit(job_seconds, make(kinds[k], "search", 0, 0, {})) for k in some}
        for kind, future in futures.items():
            measured[kind] = None if future.exception() else future.result()
    found = {item.cell.id: measured.get(_kind(item.cell)) for item in plans}
    return {cell: seconds for cell, seconds in found.items() if seconds is not None}


def _kind(cell: CellKey) -> Kind:
    return (cell.dataset, cell.trunk, cell.recipe, cell.trains)


def show_cells(console: Console, study: Study, plans: list[CellPlan]) -> None:
    """Print the protocol, the cells and what of them is there."""
    table = Table(title=protocol_line(study.protocol), title_justify="left", title_style="bold")
    for column in ("Method", "Dataset", "Trunk", "Recipe", "State"):
        table.add_column(column, overflow="fold")  # a name cut short could be another's
    for column in ("Trials", "Runs", "Jobs left"):
        table.add_column(column, justify="right")
    for item in plans:
        cell = item.cell
        trials = f"{item.trials_done}/{item.trials}" if item.trials else NOTHING
        runs = f"{item.runs_done}/{item.runs}"
        place = (cell.row, cell.dataset, cell.trunk, cell.recipe)
        table.add_row(*place, item.state, trials, runs, str(item.jobs_left))
    console.print(table)
    for name, value in study.protocol.overrides.items():
        console.print(f"changed from protocol {study.protocol.name}: {name} = {value}")
    narrow = study.protocol.search.bounds == "narrow"
    if same := unmoved_by_bounds(item.cell for item in plans) if narrow else []:
        more = f" and {len(same) - NAMED} more" if len(same) > NAMED else ""
        console.print(
            f"--bounds narrow changes nothing for {', '.join(same[:NAMED])}{more}: no narrower "
            "start of the paper's search is known there",
            highlight=False,
        )
    stale = grid.stale_records(study)
    if stale:
        console.print(f"{stale} folder(s) hold records of earlier code; they are left aside")


def show_expected(
    console: Console, plans: list[CellPlan], seconds: dict[str, float], workers: int, device: str
) -> None:
    """Print how many jobs are left and how long they take at most."""
    jobs = sum(item.jobs_left for item in plans)
    if not jobs:  # only joins, choices and tests of what is trained
        console.print("nothing left to train")
        return
    unknown = [i.cell.row for i in plans if i.jobs_left and i.cell.id not in seconds]
    wall = total_seconds(plans, seconds) / workers
    expected = f"time of {unknown[0]} unknown" if unknown else f"at most {duration(wall)}"
    how = f"{workers} at once on {device}"
    console.print(f"{jobs} jobs left, {how}: {expected}", highlight=False)


def show_phases(console: Console, asked: Asked, plans: list[CellPlan]) -> None:
    """Print when phases begin and how early a training can end, of cells that have phases."""
    from benchmark.running.phases import timetables

    table = Table(title="Phases: patience counts from the last one on", title_justify="left")
    for column in ("Method", "Dataset", "Recipe", "Phase"):
        table.add_column(column, overflow="fold")
    for column in ("Begins at step", "Earliest stop", "Budget"):
        table.add_column(column, justify="right")
    for cell, times in timetables(asked, plans):
        ends = (_span(times.earliest_stop), f"{times.steps:,}")
        for name, steps in times.begins.items() if not cell.repeat else ():
            table.add_row(cell.row, cell.dataset, cell.recipe, name, _span(steps), *ends)
    if table.rows:
        console.print(table)


def _span(steps: tuple[int, int]) -> str:
    """Return a step, or the lowest and highest where settings decide."""
    return " to ".join(f"{step:,}" for step in dict.fromkeys(steps))


def total_seconds(plans: list[CellPlan], seconds: dict[str, float]) -> float:
    """Return the seconds of all jobs left, one after the other."""
    return sum(item.jobs_left * seconds.get(item.cell.id, 0.0) for item in plans)


def write_outputs(study: Study) -> list[Path]:
    """Write tables and report; return their files."""
    from benchmark.report import page
    from benchmark.tables.frames import looked_at, make_tables, write_tables

    frames, folder = looked_at(make_tables(study)), study.out / "tables"
    write_tables(frames, folder)
    return [*(folder / f"{name}.csv" for name in frames.names), page.write(frames)]


def show_results(console: Console, asked: Asked) -> int:
    """Print the tables, where things are and what to try next; return the exit code."""
    from benchmark.tables import formats
    from benchmark.tables.frames import make_tables

    study = asked.study
    for part in formats.render(make_tables(study)):
        console.print(part)
    failed = [run for cell in asked.keys for run in study.runs(cell) if run.status == "failed"]
    for run in failed:
        console.print(f"seed {run.seed} failed: {run.reason}: {run.detail}", markup=False)
    console.print(f"tables   {study.out / 'tables'}", highlight=False)
    console.print(f"report   {study.out / 'report' / 'index.html'}", highlight=False)
    console.print(f"next     {next_command(asked)}", highlight=False, markup=False)
    return FAILED_JOBS if failed else DONE
