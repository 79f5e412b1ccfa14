"""The main job as a list of steps: names -> plan -> checks -> work -> tables."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmark.engines.machine import check_disk, interruptible, lock
from benchmark.exit_codes import DONE, FAILED_JOBS
from benchmark.running.progress import Progress, duration
from benchmark.running.setup import Setup, set_up, with_device
from benchmark.study import grid
from benchmark.study.folder import CellKey, Study
from benchmark.study.grid import CellPlan
from benchmark.study.scores import NOTHING
from protocols.protocol import protocol_line
from protocols.space import Settings, Space

if TYPE_CHECKING:
    from benchmark.engines.local import Engine
    from benchmark.mirror.tracking import Tracker
    from benchmark.running.coordinator import JobMaker

MIRROR_TIMEOUT_S = 60.0
_FLAGS = {"trunk": "--trunks", "recipe": "--recipes"} | {
    word: f"--{word}" for word in ("trials", "seeds", "params", "bounds", "precision")
}
Kind = tuple[str, str, str, bool]  # dataset, trunk, recipe, trains: jobs that take alike


def run(args: argparse.Namespace) -> int:
    """Plan, do what is missing, tabulate; return the exit code."""
    if args.dry_run:
        return plan(args)
    console, setup = Console(), set_up(args)
    check_disk(setup.study.out)
    with lock(setup.study.out), interruptible():
        for cell in setup.asked:
            if damaged := setup.study.set_aside_damaged(cell):
                console.print(f"{damaged} damaged record(s) of {cell.row}: kept aside, redone")
        plans = grid.progress_of(setup.study, setup.asked)
        tracker = open_tracker(console, setup.study, plans)
        if any(item.state != "done" for item in plans):
            setup = with_device(setup)
            check_trunks(setup, plans)
            work(console, setup, plans, tracker)
        else:
            console.print(f"nothing left to do in {setup.study.out}", highlight=False)
            setup.study.save()
            grid.save_cells(setup.study, setup.cells)
        artifacts = write_outputs(setup.study)
        tracker.finish(artifacts, MIRROR_TIMEOUT_S)
    return show_results(console, setup)


def plan(args: argparse.Namespace) -> int:
    """Print the grid, each cell's state, jobs left and the expected time."""
    if getattr(args, "detect", None):
        from benchmark.commands.detect import detect

        return detect(args)
    console, setup = Console(), set_up(args)
    plans = grid.progress_of(setup.study, setup.asked)
    seconds: dict[str, float] = {}
    if any(item.jobs_left for item in plans):
        setup = with_device(setup)
        check_trunks(setup, plans)
        with engine_for(setup, min(2, setup.workers)) as engine:
            seconds = expected_seconds(setup, plans, engine)
            setup = replace(setup, workers=setup.workers or engine.capacity)
    show_plan(console, setup, plans, seconds)
    return DONE


def work(console: Console, setup: Setup, plans: list[CellPlan], tracker: Tracker) -> None:
    """Do all missing jobs of the plan."""
    study = setup.study
    with engine_for(setup, setup.workers) as engine:
        # Here: workers load torch while this process loads optuna, and a finished folder neither.
        from benchmark.running import flows
        from benchmark.running.coordinator import Coordinator

        seconds = expected_seconds(setup, plans, engine)
        show_plan(console, replace(setup, workers=engine.capacity), plans, seconds)
        study.save()
        grid.save_cells(study, setup.cells)
        log = study.out / "log.txt"
        with Progress(console, plans, log, engine.capacity, seconds) as progress:
            coordinator = Coordinator(study, job_maker(setup), space_of(setup), tracker, progress)
            flows.run(coordinator.flows(setup.asked), engine)


def check_trunks(setup: Setup, plans: list[CellPlan]) -> None:
    """Raise InvalidInputError before anything starts where jobs could only fail.

    That is a trunk that cannot give what a method wants, or weights that do not fit it.
    """
    from benchmark.training.job import serving_trunk
    from protocols.method import Wants

    make, loaded = job_maker(setup), set()
    for item in plans:
        if not item.jobs_left:
            continue
        job = make(item.cell, "search", 0, 0, {})
        if job.weights is not None and item.cell.trunk not in loaded:
            loaded.add(item.cell.trunk)
            serving_trunk(job)
        elif setup.registry.load("method", item.cell.method).wants != Wants():
            serving_trunk(replace(job, weights=None))


def open_tracker(console: Console, study: Study, plans: list[CellPlan]) -> Tracker:
    """Return the MLflow mirror, or nothing where all is done and mirrored."""
    from benchmark.mirror.tracking import Mirror, NoTracker, needs_sync

    if all(item.state == "done" for item in plans) and not needs_sync(study):
        return NoTracker()
    return Mirror(study, lambda text: console.print(text, highlight=False, markup=False))


@contextmanager
def engine_for(setup: Setup, workers: int) -> Iterator[Engine]:
    """Yield workers, with the datasets decoded for them; kill them at the end."""
    from benchmark.training import splits

    setup.study.out.mkdir(parents=True, exist_ok=True)
    engine = make_engine(setup, workers)
    try:
        engine.start()
        for source in setup.sources.values():
            splits.prepare(source, setup.study.protocol)
        yield engine
    finally:
        engine.close()


def make_engine(setup: Setup, workers: int) -> Engine:
    """Return the engine that was asked for; ``workers`` 0 under Ray is as many as fit."""
    place, threads = setup.place, setup.study.protocol.threads_per_job
    log, strict = setup.study.out / "workers.txt", place.deterministic
    if place.engine == "ray":
        from benchmark.engines.ray_cluster import RayEngine

        gpus = place.gpus_per_job if setup.device == "cuda" else 0.0
        return RayEngine(workers or None, threads, gpus, log, deterministic=strict)
    from benchmark.engines.local import LocalEngine

    return LocalEngine(workers, threads, log, deterministic=strict, devices=place.devices)


def job_maker(setup: Setup) -> JobMaker:
    """Return what builds this study's jobs."""
    from benchmark.training.job import Job

    def make(cell: CellKey, stage: str, number: int, fold: int, settings: Settings) -> Job:
        return Job(
            cell=cell,
            protocol=setup.study.protocol.on(cell.dataset),
            recipe=setup.recipes[cell.recipe],
            stage=stage,
            number=number,
            fold=fold,
            settings=settings,
            source=setup.sources[cell.dataset],
            device=setup.device,
            weights=setup.weights,
            plugins=setup.registry.plugins,
        )

    return make


def space_of(setup: Setup) -> Callable[[CellKey], Space]:
    """Return what looks up a cell's search space."""

    def look_up(cell: CellKey) -> Space:
        method = setup.registry.load("method", cell.method)
        space: Space = method.space(cell.dataset, setup.study.protocol.search.bounds)
        return space

    return look_up


def expected_seconds(setup: Setup, plans: list[CellPlan], engine: Engine) -> dict[str, float]:
    """Return the seconds of a job by cell id, measured once per kind of network.

    Cells whose job cannot be measured are missing; running them says why.
    """
    from benchmark.training.timing import job_seconds

    make = job_maker(setup)
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


def show_plan(
    console: Console, setup: Setup, plans: list[CellPlan], seconds: dict[str, float]
) -> None:
    """Print the protocol, the cells, and how long it takes at most."""
    study = setup.study
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
    stale = grid.stale_records(study)
    if stale:
        console.print(f"{stale} folder(s) hold records of earlier code; they are left aside")
    jobs = sum(item.jobs_left for item in plans)
    if not jobs:
        console.print("nothing left to do")
        return
    unknown = [i.cell.row for i in plans if i.jobs_left and i.cell.id not in seconds]
    wall = total_seconds(plans, seconds) / setup.workers
    expected = f"time of {unknown[0]} unknown" if unknown else f"at most {duration(wall)}"
    how = f"{setup.workers} at once on {setup.device}"
    console.print(f"{jobs} jobs left, {how}: {expected}", highlight=False)


def total_seconds(plans: list[CellPlan], seconds: dict[str, float]) -> float:
    """Return the seconds of all jobs left, one after the other."""
    return sum(item.jobs_left * seconds.get(item.cell.id, 0.0) for item in plans)


def write_outputs(study: Study) -> list[Path]:
    """Write tables and report; return their files."""
    from benchmark.report import page
    from benchmark.tables.frames import make_tables, write_tables

    frames, folder = make_tables(study), study.out / "tables"
    write_tables(frames, folder)
    return [*(folder / f"{name}.csv" for name in frames.names), page.write(frames)]


def show_results(console: Console, setup: Setup) -> int:
    """Print the tables, where things are and what to try next; return the exit code."""
    from benchmark.tables import formats
    from benchmark.tables.frames import make_tables

    study = setup.study
    for part in formats.render(make_tables(study)):
        console.print(part)
    failed = [run for cell in setup.asked for run in study.runs(cell) if run.status == "failed"]
    for run in failed:
        console.print(f"seed {run.seed} failed: {run.reason}: {run.detail}", markup=False)
    console.print(f"tables   {study.out / 'tables'}", highlight=False)
    console.print(f"report   {study.out / 'report' / 'index.html'}", highlight=False)
    console.print(f"next     {next_command(setup)}", highlight=False, markup=False)
    return FAILED_JOBS if failed else DONE


def next_command(setup: Setup) -> str:
    """Return a command that leads on from here, under the same rules."""
    protocol = setup.study.protocol
    used = {cell.method for cell in setup.study.cells}
    other = next((m for m in setup.registry.names("method") if m not in used), None)
    words = ["--methods", other] if other else ["--seeds", str(protocol.seeds + 2)]
    if protocol.name != "quick":
        words += ["--protocol", protocol.name]
    for name, value in protocol.overrides.items():
        if (flag := _FLAGS.get(name)) and flag not in words:
            words += [flag, str(value)]
    if setup.weights is not None:
        words += ["--weights", str(setup.weights)]
    words += ["--out", str(setup.study.out)]
    return f"python -m benchmark run {shlex.join(words)}"
