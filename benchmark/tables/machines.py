"""Where the rows of one table were made on unlike machines, in words for people."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.study.machines import KIND, parted
from benchmark.study.records import RunRecord, TrialRecord
from benchmark.tables.results import CellResults

# What can move a number between two records of the same code and data.
SAID = {
    KIND: "kind",
    "device": "device",
    "cpu_capability": "CPU instructions",
    "matmul_precision": "precision of products",
    "conv_precision": "precision of convolutions",
    "torch": "torch",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
}
_SHOWN = 3  # rows named beside a value; the rest are counted


def notes(cells: Sequence[CellResults]) -> dict[tuple[str, ...], str]:
    """Return a sentence for each dataset, trunk and recipe whose rows met unlike machines."""
    groups: dict[tuple[str, ...], list[CellResults]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.place.values()), []).append(cell)
    return {place: text for place, group in groups.items() if (text := _note(group))}


def _note(cells: Sequence[CellResults]) -> str:
    """Return where runs and trials of ``cells`` met unlike machines, "" where all are alike.

    A record of an earlier version, which does not say something, counts as ``unknown`` there.
    """
    met: dict[str, dict[str, dict[str, None]]] = {name: {} for name in SAID}
    for cell in cells:
        made: list[TrialRecord | RunRecord] = [*cell.trials, *cell.runs]
        for record in made:
            environment = record.measured.get("environment", {})
            for name in SAID if environment else ():
                for value in parted(environment, name):
                    met[name].setdefault(value, {})[cell.key.row] = None
    parts = [
        f"{SAID[name]} " + ", ".join(f"{v} ({_few(list(rows))})" for v, rows in values.items())
        for name, values in met.items()
        if len(values) > 1
    ]
    return f"made on unlike machines: {'; '.join(parts)}" if parts else ""


def _few(rows: Sequence[str]) -> str:
    more = len(rows) - _SHOWN
    return ", ".join(rows[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
