"""The main job as a list of steps: names -> plan -> checks -> work -> tables."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmark.commands.doubts import say_doubts
from benchmark.commands.lines import say
from benchmark.commands.plans import show_cells, show_expected, show_phases, show_uncommitted
from benchmark.commands.proposal import next_command
from benchmark.commands.retries import lost_cells, show_lost, show_retries, take_back
from benchmark.engines.holding import lock
from benchmark.engines.machine import check_disk, check_writable
from benchmark.engines.starting import check_system
from benchmark.exit_codes import DONE, FAILED_JOBS, INTERRUPTED, TIME_UP
from benchmark.running.bound import width
from benchmark.running.limits import Stopped, left, start_counting, stoppable
from benchmark.running.progress import Progress
from benchmark.running.setup import Asked, Ready, make_ready, set_up
from benchmark.study import grid, partials
from benchmark.study.aside import in_words, set_aside
from benchmark.study.folder import CellKey, Study
from benchmark.study.grid import CellPlan
from benchmark.study.leftovers import clean
from benchmark.study.looks import plan_seeds
from protocols.space import Settings, Space

if TYPE_CHECKING:
    from benchmark.engines.local import Engine
    from benchmark.mirror.tracking import Tracker
    from benchmark.running.coordinator import JobMaker
    from benchmark.training.job import Job

MIRROR_TIMEOUT_S = 60.0
# Dataset, trunk, recipe, trains, and on a GPU the method: their jobs take as long.
Kind = tuple[str, str, str, bool, str]


def run(args: argparse.Namespace) -> int:
    """Plan, do what is missing, tabulate; return the exit code."""
    check_system()
    if args.dry_run:
        return plan(args)
    start_counting()
    started, console, asked = time.monotonic(), Console(), set_up(args)
    check_disk(asked.study.out)
    check_writable(asked.study.out)
    with lock(asked.study.out, partial(say, console)):
        try:
            with stoppable(args.max_hours, started):
                do_all(console, asked)
        except Stopped as stop:
            print(f"benchmark: {left(asked, stop)}", file=sys.stderr)
            return TIME_UP if stop.time_up else INTERRUPTED
    return show_results(console, asked)


def do_all(console: Console, asked: Asked) -> None:
    """Do what is missing, then write tables, report and mirror; the folder is locked."""
    study = asked.study
    for cell in asked.keys:
        if lost := set_aside(study, cell):
            say(console, f"{cell.row}: {in_words(lost)}; kept aside and redone")
    if asked.options.retry_failed:
        take_back(console, asked)
    clean(study)
    if begun := partials.tidy(study):
        say(console, f"{begun} training(s) were begun and go on")
    plans = grid.progress_of(study, asked.keys)
    tracker = open_tracker(console, study, plans)
    if not all(item.ended for item in plans):
        ready = make_ready(asked)
        check_phases(asked, plans)
        work(console, asked, ready, plans, tracker)
    else:
        say(console, f"nothing left to do in {study.out}")
        study.save()
        grid.save_cells(study, asked.cells)
    artifacts = write_outputs(study)
    tracker.finish(artifacts, MIRROR_TIMEOUT_S)


def plan(args: argparse.Namespace) -> int:
    """Print the grid, each cell's state, jobs left and the expected time."""
    check_system()
    if getattr(args, "detect", None):
        from benchmark.commands.detect import detect

        return detect(args)
    console, asked = Console(), set_up(args)
    if getattr(args, "retry_failed", False):
        show_retries(console, asked)
    plans = grid.progress_of(asked.study, asked.keys)
    if not any(item.jobs_left for item in plans):
        show_cells(console, asked.study, plans)
        console.print("nothing left to do")
        return DONE
    ready = make_ready(asked)
    check_phases(asked, plans)
    # Jobs slow each other down, so as many are measured at once as will run at once.
    with engine_for(console, asked, ready) as engine:
        look_before(console, asked, ready, plans, engine)
        share_cards(asked, ready, plans, engine)
        seconds = expected_seconds(asked, ready, plans, engine)
        show_cells(console, asked.study, plans)
        show_phases(console, asked, plans)
        show_expected(console, plans, seconds, engine.capacity, ready.device)
    return DONE


def work(
    console: Console, asked: Asked, ready: Ready, plans: list[CellPlan], tracker: Tracker
) -> None:
    """Do all missing jobs of the plan."""
    study = asked.study
    with engine_for(console, asked, ready) as engine:
        # Imported only now: workers load torch while this process loads optuna, and a folder
        # with nothing left to do needs neither.
        from benchmark.running import flows
        from benchmark.running.coordinator import Coordinator

        look_before(console, asked, ready, plans, engine)
        share_cards(asked, ready, plans, engine)
        seconds = expected_seconds(asked, ready, plans, engine)
        show_cells(console, study, plans)
        show_phases(console, asked, plans)
        show_expected(console, plans, seconds, engine.capacity, ready.device)
        show_uncommitted(console)
        study.save()
        plan_seeds(study)
        grid.save_cells(study, asked.cells)
        log, make_job = study.out / "log.txt", job_maker(asked, ready)
        metric = study.protocol.selection_metric
        with Progress(console, plans, log, engine.capacity, seconds, metric) as progress:
            coordinator = Coordinator(study, make_job, space_of(asked), tracker, progress)
            flows.run(coordinator.flows(asked.keys), engine)


def check_phases(asked: Asked, plans: list[CellPlan]) -> None:
    """Raise InvalidInputError where a budget ends before a phase of its method begins."""
    from benchmark.running.phases import timetables  # here: it imports torch

    timetables(asked, plans)


def look_before(
    console: Console, asked: Asked, ready: Ready, plans: list[CellPlan], engine: Engine
) -> None:
    """Raise InvalidInputError before anything starts where jobs could only fail."""
    from benchmark.running.preflight import check_memory, look_first
    from protocols.space import defaults

    make, space = job_maker(asked, ready), space_of(asked)

    def first(cell: CellKey) -> Job:
        return make(cell, "search", 0, 0, defaults(space(cell)) if cell.searched else {})

    def say(words: str) -> None:
        console.print(words, soft_wrap=True, highlight=False, markup=False)

    found = look_first(plans, first, engine, say)
    if ready.device == "cpu" and asked.options.engine == "local":
        check_memory(found, ready.workers or 1)


def open_tracker(console: Console, study: Study, plans: list[CellPlan]) -> Tracker:
    """Return the MLflow mirror, or nothing where all is done and mirrored."""
    from benchmark.mirror.tracking import Mirror, NoTracker, needs_sync

    if all(item.ended for item in plans) and not needs_sync(study):
        return NoTracker()
    return Mirror(study, partial(say, console))


@contextmanager
def engine_for(console: Console, asked: Asked, ready: Ready) -> Iterator[Engine]:
    """Yield workers, with the datasets decoded for them; kill them at the end."""
    from benchmark.running.canary import check_workers
    from benchmark.training import splits

    asked.study.out.mkdir(parents=True, exist_ok=True)
    check_writable(asked.study.out)
    engine = make_engine(asked, ready)
    try:
        engine.start()
        for source in asked.sources.values():
            for path in splits.prepare(source, asked.study.protocol):
                words = f"{path.name} is damaged or has no checksum: made anew"
                say(console, words)
        if asked.options.engine == "ray":
            from benchmark.engines.ray_cluster import shortage

            gpus = asked.options.gpus_per_job if ready.device == "cuda" else 0.0
            if lack := shortage(asked.study.protocol.threads_per_job, gpus):
                say(console, lack)
        if asked.options.engine == "local":  # elsewhere there may be no free worker for long
            check_workers(engine, ready.device)
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
            partial=partials.path_of(asked.study, cell, stage, number, fold),
        )

    return make


def space_of(asked: Asked) -> Callable[[CellKey], Space]:
    """Return what looks up a cell's search space."""

    def look_up(cell: CellKey) -> Space:
        from protocols.narrowing import space_under  # here: it imports torch

        method = asked.registry.load("method", cell.method)
        return space_under(asked.study.protocol, cell.method, method, cell.dataset)

    return look_up


def share_cards(asked: Asked, ready: Ready, plans: list[CellPlan], engine: Engine) -> None:
    """Let as many jobs share a GPU as pay, where the command does not say how many."""
    training = [item.cell for item in plans if item.jobs_left and item.cell.trains]
    if not ready.devices or asked.options.jobs or not training:
        return
    from benchmark.engines.local import LocalEngine
    from benchmark.running.sharing import share

    assert isinstance(engine, LocalEngine)
    job = job_maker(asked, ready)(training[0], "search", 0, 0, {})
    share(engine, job, len(ready.devices))


def expected_seconds(
    asked: Asked, ready: Ready, plans: list[CellPlan], engine: Engine
) -> dict[str, float]:
    """Return the seconds of a job by cell id, measured once per kind of network.

    On a GPU every method is measured. As many jobs are measured at once as will run at once,
    because they slow each other down, most where there are fewer cores than jobs. Cells whose
    job cannot be measured are missing; running them says why.
    """
    from benchmark.training.timing import job_seconds

    make = job_maker(asked, ready)
    kinds: dict[Kind, CellKey] = {}
    for item in plans:
        if item.jobs_left:
            kinds.setdefault(_kind(item.cell, ready), item.cell)
    measured: dict[Kind, float | None] = {}
    waiting = list(kinds)
    while waiting:
        some, waiting = waiting[: engine.capacity], waiting[engine.capacity :]
        beside = max(len(some), min(engine.capacity, width(plans)))
        futures = [
            (kind, engine.submit(job_seconds, make(kinds[kind], "search", 0, 0, {})))
            for kind in islice(cycle(some), beside)
        ]
        for kind, future in futures:
            if future.exception() is None:
                measured[kind] = max(future.result(), measured.get(kind) or 0.0)
    found = {item.cell.id: measured.get(_kind(item.cell, ready)) for item in plans}
    return {cell: seconds for cell, seconds in found.items() if seconds is not None}


def _kind(cell: CellKey, ready: Ready) -> Kind:
    method = "" if ready.device == "cpu" else cell.method
    return (cell.dataset, cell.trunk, cell.recipe, cell.trains, method)


def write_outputs(study: Study) -> list[Path]:
    """Write tables and report; return their files."""
    from benchmark.report import page
    from benchmark.tables.frames import looked_at, make_tables, write_tables

    frames, folder = looked_at(make_tables(study)), study.out / "tables"
    write_tables(frames, folder)
    say_doubts(study)
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
        say(console, f"seed {run.seed} failed: {run.reason}: {run.detail}")
    lost = lost_cells(asked)
    show_lost(console, lost)
    say(console, f"tables   {study.out / 'tables'}")
    say(console, f"report   {study.out / 'report' / 'index.html'}")
    say(console, f"next     {next_command(asked)}")
    return FAILED_JOBS if failed or lost else DONE
