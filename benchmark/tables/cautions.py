"""What to know of a table before its numbers are read: its classes, and its rows' machines."""

from __future__ import annotations

from benchmark.study.sides import sides_of
from benchmark.tables import machines
from benchmark.tables.frames import Tables

Place = tuple[str, ...]


def cautions(tables: Tables) -> dict[Place, list[str]]:
    """Return sentences by dataset, trunk and recipe, for those that have any."""
    found: dict[Place, list[str]] = {}
    for place, key in {tuple(cell.place.values()): cell.key for cell in tables.cells}.items():
        sides = sides_of(tables.study, key)
        if sides is not None and sides.warning:
            found.setdefault(place, []).append(sides.warning)
    for place, text in machines.notes(tables.cells).items():
        found.setdefault(place, []).append(text)
    return found
