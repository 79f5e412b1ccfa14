"""Where the rows of one table were made on unlike machines, in words for people."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.study.machines import unlike
from benchmark.study.records import RunRecord, TrialRecord
from benchmark.tables.results import CellResults


def notes(cells: Sequence[CellResults]) -> dict[tuple[str, ...], str]:
    """Return a sentence for each dataset, trunk and recipe whose rows met unlike machines."""
    groups: dict[tuple[str, ...], list[CellResults]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.place.values()), []).append(cell)
    found = {
        place: unlike(
            (cell.key.row, record.measured.get("environment", {}))
            for cell in group
            for record in _made(cell)
        )
        for place, group in groups.items()
    }
    return {place: text for place, text in found.items() if text}


def _made(cell: CellResults) -> list[TrialRecord | RunRecord]:
    return [*cell.trials, *cell.runs]
