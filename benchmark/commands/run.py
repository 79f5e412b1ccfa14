"""The main job as a list of steps: names -> plan -> checks -> work -> tables."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmark.commands.doubts import say_doubts
from benchmark.commands.jobs import (
    check_phases,
    expected_seconds,
    job_maker,
    look_before,
    make_engine,
    share_cards,
    space_of,
)
from benchmark.commands.kept import keep_of, tidy_weights
from benchmark.commands.lines import say
from benchmark.commands.plans import (
    show_cells,
    show_expected,
    show_phases,
    show_uncommitted,
    show_weights,
)
from benchmark.commands.proposal import next_command
from benchmark.commands.retries import lost_cells, show_lost, show_retries, take_back
from benchmark.engines.holding import lock
from benchmark.engines.machine import check_disk, check_writable
from benchmark.engines.starting import check_system
from benchmark.exit_codes import DONE, FAILED_JOBS, INTERRUPTED, TIME_UP
from benchmark.running.limits import Stopped, left, start_counting, stoppable
from benchmark.running.progress import Progress
from benchmark.running.setup import Asked, Ready, make_ready, set_up
from benchmark.study import grid, partials
from benchmark.study.aside import in_words, set_aside
from benchmark.study.folder import Study
from benchmark.study.grid import CellPlan
from benchmark.study.leftovers import clean
from benchmark.study.looks import plan_seeds

if TYPE_CHECKING:
    from benchmark.engines.local import Engine
    from benchmark.mirror.tracking import Tracker

MIRROR_TIMEOUT_S = 60.0


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
    lacking = tidy_weights(console, asked)
    plans = grid.progress_of(study, asked.keys)
    tracker = open_tracker(console, study, plans)
    if lacking or not all(item.ended for item in plans):
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
        show_weights(console, asked, plans, keep_of(asked))
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
        from benchmark.running.keeping import remake

        look_before(console, asked, ready, plans, engine)
        share_cards(asked, ready, plans, engine)
        seconds = expected_seconds(asked, ready, plans, engine)
        show_cells(console, study, plans)
        show_phases(console, asked, plans)
        show_weights(console, asked, plans, keep_of(asked))
        show_expected(console, plans, seconds, engine.capacity, ready.device)
        show_uncommitted(console, asked.registry.plugins)
        study.save()
        plan_seeds(study)
        grid.save_cells(study, asked.cells)
        log, make_job = study.out / "log.txt", job_maker(asked, ready)
        metric = study.protocol.selection_metric
        with Progress(console, plans, log, engine.capacity, seconds, metric) as progress:
            keep = keep_of(asked)
            coordinator = Coordinator(study, make_job, space_of(asked), tracker, progress, keep)
            flows.run(coordinator.flows(asked.keys), engine)
            if asked.options.keep:
                flows.run([remake(study, asked.keys, keep, make_job, progress)], engine)


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
