"""How an event is printed: as one line, whatever the width, to be searched and copied."""

from __future__ import annotations

from rich.console import Console

from protocols.names import one_line


def say(console: Console, text: str) -> None:
    """Print ``text`` as it is, in one line: no colours, no markup, no breaks at the width."""
    console.print(one_line(text), soft_wrap=True, highlight=False, markup=False)
