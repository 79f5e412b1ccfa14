"""The plan of a study: what is there, what is left, how long it takes. It writes nothing."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmark.commands.jobs import (
    check_phases,
    engine_for,
    look_before,
    measured,
)
from benchmark.commands.kept import keep_of
from benchmark.commands.lines import say, say_reading
from benchmark.commands.own_folder import settle_folder
from benchmark.commands.plans import (
    MEASURING,
    UNTRAINED,
    show_cells,
    show_expected,
    show_phases,
    show_weights,
)
from benchmark.commands.remaining import remaining
from benchmark.commands.replaced import say_replaced
from benchmark.engines.starting import check_system
from benchmark.exit_codes import DONE
from benchmark.running.filling import check_batches
from benchmark.running.limits import stoppable
from benchmark.running.setup import Asked, make_ready, set_up
from benchmark.study import checksums
from benchmark.study.grid import CellPlan
from protocols.errors import StoreError


def plan(args: argparse.Namespace) -> int:
    """Print the grid, each cell's state, jobs left and the expected time."""
    check_system()
    with _no_bytecode():
        moved = settle_folder(args)
        if getattr(args, "detect", None):
            from benchmark.commands.detect import detect

            return detect(args)
        console, asked = Console(), set_up(args, say_reading)
        if moved:
            say(console, moved)
        say_replaced(console, asked)
        check_batches(asked)
        retry = getattr(args, "retry_failed", False)
        found = remaining(console, asked, retry=retry, change=False)
        if any(item.jobs_left for item in found.plans):
            console.print(MEASURING)
            _measure(console, asked, found.plans)
        else:
            show_cells(console, asked.study, found.plans)
            if found.any:
                show_weights(console, asked, found.plans, keep_of(asked))
                console.print(UNTRAINED)
            else:
                console.print("nothing left to do")
    return DONE


def _measure(console: Console, asked: Asked, plans: list[CellPlan]) -> None:
    """Let cells take their first steps, and print the plan with the time that they predict."""
    ready = make_ready(asked)
    check_phases(asked, plans)
    # A signal ends this as Ctrl-C does, so that the folder of decoded images goes in any case.
    with _elsewhere() as place, stoppable(None, time.monotonic()):
        asked = _decoded_in(place, asked)
        # Jobs slow each other down, so as many are measured at once as will run at once.
        with engine_for(console, asked, ready, place) as engine:
            looks = look_before(console, asked, ready, plans, engine)
            seconds = measured(asked, ready, plans, engine, looks)
            show_cells(console, asked.study, plans)
            show_phases(console, asked, plans)
            show_weights(console, asked, plans, keep_of(asked))
            show_expected(console, plans, seconds, engine.capacity, ready.device)


@contextmanager
def _elsewhere() -> Iterator[Path]:
    """Give a folder that is gone afterwards.

    Raises:
        StoreError: there is no place for one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="dml-benchmark-plan-")
    except OSError as error:
        raise StoreError(
            f"no folder for what a plan needs for a while: {error.strerror}. Let TMPDIR name one "
            "that can be written"
        ) from error
    with folder as path:
        yield Path(path)


def _decoded_in(place: Path, asked: Asked) -> Asked:
    """Return the same study; images that its folder does not hold whole are decoded in ``place``.

    Workers that import a plugin write no bytecode beside it.
    """
    protocol = asked.study.protocol
    sources = {
        title: source
        if all(map(checksums.intact, source.files(protocol)))
        else replace(source, cache=place / "cache")
        for title, source in asked.sources.items()
    }
    environment = {**asked.environment, "PYTHONDONTWRITEBYTECODE": "1"}
    return replace(asked, sources=sources, environment=environment)


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Let Python keep no compiled form of the plugins that are imported here."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
