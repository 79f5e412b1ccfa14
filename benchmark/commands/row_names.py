"""Whether a plugin's name may stand in results/: said before hours are spent, not after."""

from __future__ import annotations

import re


def unfit(name: str) -> str:
    """Return why rows of a plugin cannot be submitted under its name, empty if they can."""
    from benchmark.submissions.fields import NAME  # here: it imports pydantic, and few have plugins

    if re.fullmatch(NAME, name):
        return ""
    return (
        f"no row of results/ can be called {name!r}: expected lower-case letters, digits, '_' and "
        "'-', a letter or digit first. To submit rows of it, rename the file before the study"
    )
