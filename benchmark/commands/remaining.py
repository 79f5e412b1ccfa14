"""What is left to do in a study: the one answer that ``plan`` prints and ``run`` does."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from benchmark.commands.kept import made_again
from benchmark.commands.retries import show_retries
from benchmark.running.setup import Asked
from benchmark.study import grid
from benchmark.study.aside import faults, made_from
from benchmark.study.grid import CellPlan
from benchmark.study.lost import done_again, put_aside


@dataclass(frozen=True)
class Remaining:
    """How far each cell has come, and whether ``run`` has anything to do."""

    plans: list[CellPlan]
    any: bool


def remaining(console: Console, asked: Asked, *, retry: bool, change: bool) -> Remaining:
    """Return what is left to do, and say what ``--retry-failed`` does again.

    Args:
        console: where that is said.
        asked: the study and the cells that are asked for.
        retry: whether what the machine lost is done again.
        change: whether the records of that are put aside; otherwise they are only passed over, and
            so are those that are not believed.
    """
    study, without = asked.study, dict[str, set[str]]()
    if not change:
        for cell in asked.keys:
            doubted = faults(study, cell)
            without[cell.id] = doubted.keys() | made_from(doubted)
    for lost in show_retries(console, asked) if retry else ():
        without.setdefault(lost.cell.id, set()).update(done_again(study, lost))
        if change:
            put_aside(study, lost)
    plans = grid.progress_of(study, asked.keys, without)
    return Remaining(plans, made_again(asked) or not all(item.ended for item in plans))
