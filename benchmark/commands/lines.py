"""How an event is printed: as one line, whatever the width, so that it can be searched and copied."""

from __future__ import annotations

from rich.console import Console


def say(console: Console, text: str) -> None:
    """Print ``text`` as it is, in one line: no colours, no markup, no breaks at the width."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)
