"""What to know of a table before its numbers are read: classes, machines, untrained models."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.study.sides import sides_of
from benchmark.study.step_zero import untrained_folds
from benchmark.tables import machines
from benchmark.tables.frames import Tables
from benchmark.tables.results import CellResults

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
    for place, text in _untrained(tables.cells).items():
        found.setdefault(place, []).append(text)
    return found


def _untrained(cells: Sequence[CellResults]) -> dict[Place, str]:
    """Return which methods that train kept untrained models, and in how many of their folds."""
    counts: dict[Place, list[str]] = {}
    for cell in cells:
        kept = sum(map(untrained_folds, cell.runs))
        if cell.key.trains and kept:
            folds = sum(len(run.best_steps) for run in cell.runs if run.status == "done")
            own = counts.setdefault(tuple(cell.place.values()), [])
            own.append(f"{cell.key.row} in {kept} of {folds}{'' if own else ' folds'}")
    return {
        place: "kept the untrained model (step 0), as no later validation was better: "
        + ", ".join(own)
        for place, own in counts.items()
    }
