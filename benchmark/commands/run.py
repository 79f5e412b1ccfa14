"""The main job as a list of steps: names -> plan -> checks -> work -> tables."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmark.commands.doubts import say_doubts
from benchmark.commands.jobs import (
    check_phases,
    engine_for,
    job_maker,
    look_before,
    measured,
    space_of,
)
from benchmark.commands.kept import keep_of, tidy_weights
from benchmark.commands.lines import counted, say, say_reading
from benchmark.commands.own_folder import settle_folder
from benchmark.commands.plan import plan
from benchmark.commands.plans import (
    MEASURING,
    show_cells,
    show_expected,
    show_phases,
    show_uncommitted,
    show_weights,
)
from benchmark.commands.proposal import next_command, remember_words
from benchmark.commands.remaining import remaining
from benchmark.commands.replaced import say_replaced
from benchmark.commands.retries import lost_cells, show_lost
from benchmark.engines.holding import lock
from benchmark.engines.machine import check_disk, check_writable
from benchmark.engines.starting import check_system
from benchmark.exit_codes import DONE, FAILED_JOBS, INTERRUPTED, TIME_UP
from benchmark.running import search_copy
from benchmark.running.filling import check_batches
from benchmark.running.limits import Stopped, left, start_counting, stoppable
from benchmark.running.progress import Progress
from benchmark.running.setup import Asked, Ready, make_ready, read_again, set_up
from benchmark.study import grid, partials
from benchmark.study.aside import in_words, set_aside
from benchmark.study.folder import Study
from benchmark.study.grid import CellPlan
from benchmark.study.leftovers import clean
from benchmark.study.looks import plan_seeds

if TYPE_CHECKING:
    from benchmark.mirror.tracking import Tracker

MIRROR_TIMEOUT_S = 60.0
STOPPED_TIMEOUT_S = 5.0  # a cluster that stops a run gives it little time


def run(args: argparse.Namespace) -> int:
    """Plan, do what is missing, tabulate; return the exit code."""
    check_system()
    if args.dry_run:
        return plan(args)
    start_counting()
    started, console, moved = time.monotonic(), Console(), settle_folder(args)
    asked = set_up(args, say_reading)
    if moved:
        say(console, moved)
    say_replaced(console, asked)
    check_batches(asked)
    check_disk(asked.study.out)
    check_writable(asked.study.out)
    with lock(asked.study.out, partial(say, console)):
        asked = read_again(asked)
        try:
            with stoppable(args.max_hours, started, partial(show_left, asked)):
                do_all(console, asked)
        except Stopped as stop:
            return TIME_UP if stop.time_up else INTERRUPTED
    return show_results(console, asked)


def show_left(asked: Asked, stop: Stopped) -> None:
    """Print who stopped the run, what is left of it and how it goes on."""
    print(f"benchmark: {left(asked, stop)}", file=sys.stderr)


def do_all(console: Console, asked: Asked) -> None:
    """Do what is missing, then write tables, report and mirror; the folder is locked."""
    study = asked.study
    for cell in asked.keys:
        if lost := set_aside(study, cell):
            say(console, f"{cell.place}: {in_words(lost)}; kept aside and redone")
    tidy_weights(console, asked)
    found = remaining(console, asked, retry=asked.options.retry_failed, change=True)
    clean(study)
    if begun := partials.tidy(study):
        say(console, f"begun, and going on: {counted(begun, 'training')}")
    if found.any:
        console.print(MEASURING)
    else:
        say(console, f"nothing left to do in {study.out}")
    plans = found.plans
    tracker = open_tracker(console, study, plans)
    try:
        if found.any:
            ready = make_ready(asked)
            check_phases(asked, plans)
            work(console, asked, ready, plans, tracker)
        else:
            search_copy.mend(study, asked.keys, space_of(asked), partial(say, console))
            study.save()
            remember_words(asked)
            grid.save_cells(study, asked.cells)
        artifacts = write_outputs(study)
    except BaseException:  # stopped by whomever or whatever: nothing may be left RUNNING
        tracker.stop(STOPPED_TIMEOUT_S)
        raise
    tracker.finish(artifacts, MIRROR_TIMEOUT_S)


def work(
    console: Console, asked: Asked, ready: Ready, plans: list[CellPlan], tracker: Tracker
) -> None:
    """Do all missing jobs of the plan."""
    study = asked.study
    with engine_for(console, asked, ready, study.out) as engine:
        # Imported only now: workers load torch while this process loads optuna, and a folder
        # with nothing left to do needs neither.
        from benchmark.running import flows
        from benchmark.running.coordinator import Coordinator
        from benchmark.running.keeping import remake

        looks = look_before(console, asked, ready, plans, engine)
        seconds = measured(asked, ready, plans, engine, looks)
        show_cells(console, study, plans)
        show_phases(console, asked, plans)
        show_weights(console, asked, plans, keep_of(asked))
        show_expected(console, plans, seconds, engine.capacity, ready.device)
        show_uncommitted(console, asked.registry.plugins)
        study.save()
        remember_words(asked)
        plan_seeds(study)
        grid.save_cells(study, asked.cells)
        log, make_job = study.out / "log.txt", job_maker(asked, ready)
        metric = study.protocol.selection_metric
        usual = {cell: took.usual for cell, took in seconds.items()}
        with Progress(console, plans, log, engine.capacity, usual, metric) as progress:
            keep = keep_of(asked)
            coordinator = Coordinator(
                study, make_job, space_of(asked), tracker, progress, keep, ready.mps
            )
            flows.run(coordinator.flows(asked.keys), engine)
            if asked.options.keep:
                flows.run([remake(study, asked.keys, keep, make_job, progress)], engine)
    if not coordinator.copy_again:  # where it failed just now it would fail again
        search_copy.mend(study, asked.keys, space_of(asked), partial(say, console))


def open_tracker(console: Console, study: Study, plans: list[CellPlan]) -> Tracker:
    """Return the MLflow mirror, or nothing where all is done and mirrored."""
    from benchmark.mirror.tracking import Mirror, NoTracker, needs_sync

    if all(item.ended for item in plans) and not needs_sync(study):
        return NoTracker()
    return Mirror(study, partial(say, console))


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
    runs = [(cell, run) for cell in asked.keys for run in study.runs(cell)]
    failed = [(cell, run) for cell, run in runs if run.status == "failed"]
    for cell, run in failed:
        say(console, f"{cell.place}: seed {run.seed} failed: {run.reason}: {run.detail}")
    lost = lost_cells(asked)
    show_lost(console, lost)
    say(console, f"tables   {study.out / 'tables'}")
    say(console, f"report   {study.out / 'report' / 'index.html'}")
    say(console, f"next     {next_command(asked)}")
    return FAILED_JOBS if failed or lost else DONE
