"""The commands that change what an output folder holds: merge, remove, clean."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmark.commands.lines import counted, say
from benchmark.commands.outputs import held_study, open_study
from benchmark.commands.proposal import continuing_command
from benchmark.commands.run import write_outputs
from benchmark.engines.holding import lock
from benchmark.engines.machine import check_disk, check_places, check_writable
from benchmark.exit_codes import DONE
from benchmark.study import grid, looks, merging, records, remains
from benchmark.study.aside import in_words
from benchmark.study.datasets import called
from benchmark.study.folder import CellKey, Study, load_study, needed
from protocols.errors import InvalidInputError, StoreError

SHOWN = 12  # conflicts printed; the rest are counted


def merge(args: argparse.Namespace) -> int:
    """Bring studies that were made apart into one folder, and tabulate it.

    Raises:
        StoreError: a folder holds no study, or two of them disagree; nothing is written then.
    """
    console, out = Console(), args.out
    check_places(out)
    check_disk(out)
    check_writable(out)
    with lock(out, partial(say, console)):
        studies = _distinct(out, args.folders)
        merging.check_alike(studies)
        parts = [part for study in studies for part in merging.parts_of(study)]
        references, unlike = merging.reference_files(studies)
        _refuse([*merging.conflicts(parts), *unlike], parts)
        target = merging.together(studies, out)
        target.save()
        came = merging.carry(target, parts)
        for name, path in references.items():
            records.write_bytes(out / "references" / name, path.read_bytes())
        merging.keep_most(target, studies)
        merging.add_looks(target, studies)
        write_outputs(target)
    for study in studies:
        if study.out in came:
            say(console, f"{study.out}: {counted(came[study.out], 'record')} taken")
        for part in parts:
            if part.study is study and part.doubted:
                where = f"{study.out}: {part.cell.place}"
                say(console, f"{where}: {in_words(part.doubted)}; left there")
    _show(console, target)
    return DONE


def remove(args: argparse.Namespace) -> int:
    """Take rows out of a study; their records stay on disk.

    Raises:
        InvalidInputError: a row that the study does not have, or that every table needs.
    """
    console = Console()
    with held_study(args.out, console) as study:
        going = _named(study, args.methods, args.datasets)
        rows = list(dict.fromkeys(cell.row for cell in going))
        gone = {cell.id for cell in going}
        # Said before it is done: an interruption must not leave a smaller family unsaid.
        looks.removed(study, rows)
        left = replace(
            study,
            cells=tuple(cell for cell in study.cells if cell.id not in gone),
            repeats=tuple(cell for cell in study.repeats if cell.id not in gone),
        )
        left.save()
        write_outputs(left)
    say(console, f"removed {', '.join(rows)}: {counted(len(going), 'cell')}")
    say(
        console,
        f"the records stay in {args.out / 'records'}; run the methods again to bring them back",
    )
    _show(console, left)
    return DONE


def clean(args: argparse.Namespace) -> int:
    """Say what an output folder holds that is made anew from its records; remove it if told so."""
    console = Console()
    with held_study(args.out, console) as study:
        found = remains.found(study)
        table = Table(title=f"{args.out}: what no result needs", title_justify="left")
        for column in ("What", "Files", "Size"):
            table.add_column(column, justify="left" if column == "What" else "right")
        for kind in found:
            table.add_row(kind.name, str(len(kind.files)), _size(kind.bytes))
        console.print(table)
        total = sum(kind.bytes for kind in found)
        if not any(kind.files for kind in found):
            say(console, "nothing to remove")
        elif args.yes or _answered(f"remove {_size(total)}? [y/N] "):
            remains.remove(study, found)
            say(console, f"removed {_size(total)}; records, queries and weights are untouched")
        else:
            say(console, "nothing removed; --yes removes it")
    return DONE


def _distinct(out: Path, folders: Sequence[Path]) -> list[Study]:
    """Return the study in ``out``, if there is one, and those in ``folders``, each once."""
    held = load_study(out)
    found = {} if held is None else {out.resolve(): held}
    for folder in folders:
        found.setdefault(folder.resolve(), open_study(folder))
    if len(found) < 2:
        raise StoreError(
            f"one study only, {next(iter(found.values())).out}: nothing to merge. Name two "
            "folders, or one and an --out that holds a study"
        )
    return list(found.values())


def _refuse(found: Sequence[merging.Conflict], parts: Sequence[merging.Part]) -> None:
    """Raise StoreError if there is a conflict; print each in a line of its own."""
    if not found:
        return
    if words := merging.machines_met(parts):
        print(words, file=sys.stderr)
    for conflict in found[:SHOWN]:
        print(conflict.words, file=sys.stderr)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more", file=sys.stderr)
    remedies = dict.fromkeys(conflict.remedy for conflict in found if conflict.remedy)
    raise StoreError(
        f"the studies disagree in {counted(len(found), 'place')}, named above; nothing was "
        f"written. {'. '.join(remedies)}".rstrip(". ")
    )


def _named(study: Study, rows: Sequence[str], datasets: Sequence[str] | None) -> list[CellKey]:
    """Return the cells of rows or methods by name, narrowed to datasets.

    With a cell go its further searches; a further search by its own name goes alone.
    """
    cells = study.all_cells
    known = {name for cell in cells for name in (cell.row, cell.method)}
    if missing := [name for name in rows if name not in known]:
        have = ", ".join(sorted({cell.row for cell in cells}))
        raise InvalidInputError(f"no row {missing[0]!r} in {study.out}; it has {have}")
    titles = {cell.dataset for cell in cells}
    asked = datasets or ()
    if missing := [name for name in asked if not any(called(title, name) for title in titles)]:
        have = ", ".join(sorted({cell.dataset for cell in cells}))
        raise InvalidInputError(f"no dataset {missing[0]!r} in {study.out}; it has {have}")
    going = [cell for cell in cells if {cell.row, cell.method} & set(rows)]
    if datasets:
        going = [cell for cell in going if any(called(cell.dataset, name) for name in datasets)]
    named = [cell for cell in going if not cell.repeat]
    further = [other for cell in named for other in study.searches(cell)[1:]]
    going += [cell for cell in further if cell not in going]
    why = needed(study.protocol)
    for cell in named:
        if cell.method in why:
            raise InvalidInputError(f"{cell.row} stays: {why[cell.method]}")
    return going


def _show(console: Console, study: Study) -> None:
    """Print the tables, and how many jobs a study lacks."""
    from benchmark.tables import formats
    from benchmark.tables.frames import make_tables

    for part in formats.render(make_tables(study)):
        console.print(part)
    left = [plan for plan in grid.progress_of(study, list(study.all_cells)) if plan.jobs_left]
    if left:
        jobs = counted(sum(plan.jobs_left for plan in left), "job")
        say(console, f"{jobs} missing; to run them:")
        say(console, _missing_command(study, [plan.cell for plan in left]))
    say(console, f"tables   {study.out / 'tables'}")
    say(console, f"next     python -m benchmark sync --out {shlex.quote(str(study.out))}")


def _missing_command(study: Study, cells: Sequence[CellKey]) -> str:
    """Return the command that runs what cells lack."""
    axes: dict[str, Sequence[str]] = {
        "methods": sorted({cell.method for cell in cells}),
        "datasets": sorted({cell.dataset for cell in cells}),
        "trunks": sorted({cell.trunk.partition("+")[0] for cell in cells}),
        "recipes": sorted({cell.recipe for cell in cells}),
    }
    if repeats := max(cell.repeat for cell in cells):
        axes["search-repeats"] = (str(repeats + 1),)
    return continuing_command(study, study.out, axes, cells[0])


def _answered(question: str) -> bool:
    """Return whether somebody at a terminal says yes."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
