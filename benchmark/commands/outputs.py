"""The commands that show a finished study: tables, report, and its mirror."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmark.commands.doubts import say_doubts
from benchmark.commands.lines import counted, say, say_reading
from benchmark.engines.holding import lock
from benchmark.engines.starting import check_system
from benchmark.exit_codes import DONE, INTERRUPTED
from benchmark.study.addresses import without_password
from benchmark.study.folder import Study, load_study
from protocols.errors import StoreError


def tables(args: argparse.Namespace) -> int:
    """Rebuild the tables from the records, and print where they are."""
    study = open_study(args.out)
    say_reading(args.out)
    from benchmark.study.records import write_bytes
    from benchmark.study.spending import Spending
    from benchmark.tables import costs
    from benchmark.tables.csv_files import to_csv
    from benchmark.tables.formats import render, to_format
    from benchmark.tables.frames import looked_at, make_tables

    frames = looked_at(make_tables(study))
    for name, content in to_format(frames, args.format).items():
        path = args.out / "tables" / name
        write_bytes(path, content)
        print(path)
    say_doubts(study)
    every, path = costs.records_of(frames), args.out / "tables" / "costs.csv"
    spending, price = Spending(every), args.price_per_hour
    spent = costs.frame(frames.cells, spending, price)
    write_bytes(path, to_csv(spent))
    print(path)
    whole = costs.in_words(spending.of(every), price)
    Console().print(*render(frames), *costs.render(spent, whole), sep="\n")
    return DONE


def report(args: argparse.Namespace) -> int:
    """Write the HTML report, and figures if asked for, and print where they are."""
    study = open_study(args.out)
    say_reading(args.out)
    from benchmark.report import page
    from benchmark.tables.frames import looked_at, make_tables

    frames = looked_at(make_tables(study))
    print(page.write(frames, args.price_per_hour))
    say_doubts(study)
    if args.figures:
        files = page.figures(frames)
        print(f"{counted(len(files), 'figure')} in {study.out / 'report' / 'figures'}")
    return DONE


def sync(args: argparse.Namespace) -> int:
    """Rebuild the MLflow mirror from the records."""
    study = open_study(args.out)
    say_reading(args.out)
    from benchmark.commands.run import write_outputs
    from benchmark.mirror import tracking

    done = tracking.sync(study, write_outputs(study))
    gone = f", {counted(done.removed, 'removed row')} deleted" if done.removed else ""
    print(f"{counted(done.written, 'record')} written, {done.already} were there{gone}: {done.uri}")
    return DONE


def ui(args: argparse.Namespace) -> int:
    """Serve the MLflow mirror until interrupted; nothing of it stays when this process ends."""
    from benchmark.mirror import page, tracking
    from benchmark.mirror.store import uri_of
    from benchmark.running.limits import Stopped, stoppable

    check_system()
    study = open_study(args.out)
    uri = uri_of(study)
    if re.match("https?:|databricks", uri):  # a server has a page of its own
        print(f"this study is mirrored to a server: open {without_password(uri)}")
        return DONE
    page.check_port(args.host, args.port)
    tracking.check_store(study, uri)
    where = f"http://{args.host}:{args.port} ({without_password(uri)})"
    try:
        with stoppable(None, 0.0):
            print(f"MLflow at {where}; Ctrl-C ends it", flush=True)
            page.serve(page.command(uri, args.host, args.port, args.allowed_hosts or ()))
    except Stopped:
        return INTERRUPTED


def open_study(out: Path) -> Study:
    """Return the study in ``out``; raise StoreError if there is none."""
    study = load_study(out)
    if study is None:
        raise StoreError(f"no study in {out}. Run one first, or name its folder with --out")
    return study


@contextmanager
def held_study(out: Path, console: Console) -> Iterator[Study]:
    """Yield the study in ``out`` while no other command can change it.

    It is read once the folder is held: until then another command may be at work there.

    Raises:
        StoreError: there is none, or another run is at work in the folder.
    """
    open_study(out)  # a folder without one is told so, and gets no lock
    with lock(out, partial(say, console)):
        yield open_study(out)
