"""A plan as it is printed: the cells, their phases, and how long what is left takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from rich.console import Console

from benchmark.commands.lines import Tables, counted, say
from benchmark.commands.row_names import unfit
from benchmark.running.bound import JobSeconds, at_least, at_most, usually
from benchmark.running.progress import duration
from benchmark.running.setup import Asked
from benchmark.study import grid, weights
from benchmark.study.environment import commit, no_commit
from benchmark.study.folder import CellKey, Study
from benchmark.study.grid import CellPlan
from benchmark.study.scores import NOTHING
from protocols import paper
from protocols.protocol import protocol_line, shown

MEASURING = "measuring how long a job takes here"
# Where only joins, choices and weights that were not kept are missing.
UNTRAINED = "every trial and run is trained; what is made from them is left to do"
NAMED = 3  # cells in a note; the rest are counted
# Times that two estimates lie apart at least where both are said. If patience is the reason: the
# bound from above is less than twice the one from below where jobs take equally long in both.
FAR = 2


def show_cells(console: Console, study: Study, plans: list[CellPlan]) -> None:
    """Print the protocol, the cells and what of them is there."""
    console.print(protocol_line(study.protocol), style="bold", highlight=False, markup=False)
    tables = Tables(("Method", "State"), ("Trials", "Runs", "Jobs left"))
    for item in plans:
        trials = f"{item.trials_done}/{item.trials}" if item.trials else NOTHING
        runs = f"{item.runs_done}/{item.runs}"
        row = (item.cell.row, item.state, trials, runs, str(item.jobs_left))
        tables.add(_place(item.cell), row)
    tables.show(console)
    for name, value in study.protocol.overrides.items():
        say(console, f"changed from protocol {study.protocol.name}: {name} = {shown(value)}")
    narrow = study.protocol.search.bounds == "narrow"
    batch = study.protocol.batch_size
    if same := unmoved_by_bounds((i.cell for i in plans), batch) if narrow else []:
        more = f" and {len(same) - NAMED} more" if len(same) > NAMED else ""
        say(
            console,
            f"--bounds narrow changes nothing for {', '.join(same[:NAMED])}{more}: no narrower "
            "start of the paper's search is known there",
        )
    stale = grid.stale_records(study)
    if stale:
        what = counted(stale, "folder")
        say(console, f"not in this study: {what} of records, of earlier code or removed rows")


def unmoved_by_bounds(cells: Iterable[CellKey], batch_size: int) -> list[str]:
    """Return which cells have the same search space under ``--bounds narrow`` as without it."""
    return [
        f"{cell.method} on {cell.dataset}"
        for cell in cells
        if cell.searched
        and (
            cell.method not in paper.METHODS
            or _bounds(cell, batch_size, "narrow") == _bounds(cell, batch_size, "wide")
        )
    ]


def _bounds(
    cell: CellKey, batch_size: int, which: Literal["wide", "narrow"]
) -> dict[str, paper.Bounds]:
    """Return the paper's bounds: those of its search at this batch, else of the one at 32."""
    at_batch = paper.search_space(cell.method, cell.dataset, batch_size, which)
    return at_batch or paper.search_space(cell.method, cell.dataset, bounds=which)


def show_expected(
    console: Console,
    plans: list[CellPlan],
    seconds: dict[str, JobSeconds],
    workers: int,
    device: str,
) -> None:
    """Print how many jobs are left, how long they take at most, and what may make it far less."""
    jobs = sum(item.jobs_left for item in plans)
    if not jobs:
        say(console, UNTRAINED)
        return
    unknown = [i.cell.place for i in plans if i.jobs_left and i.cell.id not in seconds]
    most, usual = at_most(plans, seconds, workers), usually(plans, seconds, workers)
    least = at_least(plans, seconds, workers)
    expected = f"time of {unknown[0]} unknown" if unknown else f"at most {duration(most)}"
    if not unknown and usual < most / FAR:
        dearest = max(plans, key=lambda item: _above(item, seconds)).cell.row
        expected += f", if searches take the largest numbers, above all that of {dearest}"
        expected += f"; {duration(usual)} with the defaults"
    if not unknown and least < usual / FAR:
        expected += f"; at least {duration(least)}, if each ends as early as patience lets it"
    how = f"{workers} at once on {device}"
    say(console, f"{counted(jobs, 'job')} left, {how}: {expected}")


def _above(item: CellPlan, seconds: dict[str, JobSeconds]) -> float:
    """Return how many seconds the largest numbers may add to a cell's jobs."""
    took = seconds.get(item.cell.id)
    return item.jobs_left * (took.most - took.usual) if took else 0.0


def show_uncommitted(console: Console, plugins: tuple[Path, ...]) -> None:
    """Print why results of this cannot be submitted: no commit, or changes that are in none."""
    if commit(files=plugins)["dirty"]:
        say(
            console,
            "files or plugins here are not as in the last commit: results/ takes no run of that. "
            "To submit this, commit first",
        )
    for plugin in plugins:
        if reason := unfit(plugin.stem):
            say(console, reason)
    if reason := no_commit():
        say(
            console,
            f"no commit to name in the records, so nothing of this can be submitted: {reason}",
        )


def show_phases(console: Console, asked: Asked, plans: list[CellPlan]) -> None:
    """Print when phases begin and how early a training can end, of cells that have phases."""
    from benchmark.running.phases import timetables

    words, numbers = ("Method", "Phase"), ("Begins at step", "Earliest stop", "Budget")
    tables = Tables(words, numbers)
    for cell, times in timetables(asked, plans):
        ends = (_span(times.earliest_stop), f"{times.steps:,}")
        for name, steps in times.begins.items() if not cell.repeat else ():
            tables.add(_place(cell), (cell.row, name, _span(steps), *ends))
    if tables.rows:
        console.print("Phases: patience counts from the last one on", style="bold", highlight=False)
        tables.show(console)


def show_weights(console: Console, asked: Asked, plans: list[CellPlan], keep: weights.Keep) -> None:
    """Print whose weights stay in the output folder, and how much room they take there."""
    if keep == "none":
        console.print("weights are not kept (--keep none)")
        return
    study = asked.study
    fold_bytes = {item.cell.trunk: 0 for item in plans}
    for name in fold_bytes:
        fold_bytes[name] = _trunk_bytes(asked, name.partition("+")[0])
    kept = {item.cell: study.runs_asked(item.cell) if keep == "all" else 1 for item in plans}
    models = sum(fold_bytes[cell.trunk] * runs for cell, runs in kept.items())
    total = models * study.protocol.folds
    whose = "every seed" if keep == "all" else "the best seed by validation"
    say(
        console,
        f"weights of {whose} are kept for each cell: about {total / 1e6:.1f} MB in "
        f"{study.out / 'weights'} (--keep none, best or all)",
    )
    cells = [item.cell for item in plans]
    if again := weights.lacking(study, cells, keep) if asked.options.keep else []:
        trainings = counted(len(again), "training")
        console.print(f"{trainings} again for weights that were not kept", highlight=False)


def _place(cell: CellKey) -> str:
    """Return what the cells of one table have in common, as the tables of results say it."""
    return f"{cell.dataset} · {cell.trunk} · {cell.recipe}"


def _trunk_bytes(asked: Asked, trunk: str) -> int:
    """Return the bytes of a trunk and a linear head: what most methods embed with."""
    import torch

    with torch.random.fork_rng(devices=[]):
        network = asked.registry.load("trunk", trunk).build(None)
    head = network.channels * asked.study.protocol.embedding_size
    state = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    return int(state + 4 * head)


def _span(steps: tuple[int, int]) -> str:
    """Return a step, or the lowest and highest where settings decide."""
    return " to ".join(f"{step:,}" for step in dict.fromkeys(steps))
