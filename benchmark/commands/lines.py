"""How things are printed: an event as one line whatever the width, a table within the width.

rich is imported where something is printed by it: ``verify`` counts things and works without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from protocols.names import one_line

if TYPE_CHECKING:
    from rich.console import Console

BESIDE = 38  # columns that all but the names of a table take at least


def say(console: Console, text: str) -> None:
    """Print ``text`` as it is, in one line: no colours, no markup, no breaks at the width."""
    console.print(one_line(text), soft_wrap=True, highlight=False, markup=False)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 job`` or ``2,000 jobs``; ``plural`` where it is more than an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def say_reading(*what: object) -> None:
    """Print what is read, before what takes seconds: imports of large packages among it."""
    from rich.console import Console

    say(Console(), f"reading {', '.join(map(str, what))}")


class Tables:
    """Rows of the same columns in a table for each place, to read from 60 columns on.

    Args:
        words: the columns of text; the first holds names, which are broken only where one is as
            wide as all that the terminal has left for it.
        numbers: the columns on the right.
    """

    def __init__(self, words: Sequence[str], numbers: Sequence[str]) -> None:
        self._words, self._numbers = tuple(words), tuple(numbers)
        self.rows: dict[str, list[Sequence[str]]] = {}

    def add(self, place: str, row: Sequence[str]) -> None:
        """Add a row to the table of ``place``, which is begun where there is none yet."""
        self.rows.setdefault(place, []).append(row)

    def show(self, console: Console) -> None:
        """Print all tables, each under its place."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        names = [one_line(row[0]) for rows in self.rows.values() for row in rows]
        widest = max(map(len, names), default=0)
        for place, rows in self.rows.items():
            say(console, place)
            table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
            for column in self._words:
                first = column == self._words[0]
                whole = first and widest <= console.width - BESIDE
                table.add_column(
                    column,
                    overflow="fold",  # a name cut short could be another's
                    no_wrap=whole,
                    min_width=widest if whole else None,
                )
            for column in self._numbers:
                table.add_column(column, justify="right")
            for row in rows:
                table.add_row(*(Text(one_line(cell)) for cell in row))
            console.print(table)
