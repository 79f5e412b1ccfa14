"""What the machine lost, said after a study, and taken back under ``--retry-failed``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from benchmark.commands.lines import say
from benchmark.running.setup import Asked
from benchmark.study.lost import Lost, lost_in


def lost_cells(asked: Asked) -> list[Lost]:
    """Return what the machine lost, of each cell that was asked for and has lost something."""
    return [lost for cell in asked.keys if (lost := lost_in(asked.study, cell))]


def show_retries(console: Console, asked: Asked) -> list[Lost]:
    """Print what ``--retry-failed`` does again and how much that is at most; return it."""
    found = lost_cells(asked)
    for lost in found:
        say(console, f"{lost.cell.place}: {lost.words} lost to the machine")
    jobs = sum(lost.most_jobs(asked.study) for lost in found)
    again = f"at most {jobs} jobs are run again" if found else "nothing was lost to the machine"
    say(console, f"--retry-failed: {again}")
    return found


def show_lost(console: Console, found: Sequence[Lost]) -> None:
    """Print what was lost and how it is done again."""
    for lost in found:
        say(
            console,
            f"{lost.cell.place}: {lost.words} lost to the machine, which says "
            "nothing of the method: add --retry-failed",
        )
