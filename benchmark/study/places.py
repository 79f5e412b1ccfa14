"""Where a record belongs, told by its content alone: ids and file names, recomputed.

An id is a digest of what a record is about: its cell, its number and its settings. A record that
lies in another one's place, or whose id is not that of its content, is not believed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.study.records import (
    CellRecord,
    ChoiceRecord,
    DamagedRecordError,
    JobRecord,
    Record,
    RunRecord,
    TrialRecord,
    load,
)
from benchmark.study.selection import PUBLISHED
from protocols.protocol import digest
from protocols.space import Settings


def cell_id(identity: dict[str, Any]) -> str:
    """Return the id of the cell that is made of ``identity``; its rules enter by their own hash."""
    return digest({**identity, "rules": digest(identity.get("rules"))}, 16)


def job_id(cell: str, stage: str, number: int, fold: int, settings: Settings) -> str:
    """Return the id of one training of one fold."""
    return digest([cell, stage, number, fold, settings], 16)


def trial_id(cell: str, number: int, settings: Settings) -> str:
    """Return the id of a trial."""
    return digest([cell, "trial", number, settings], 16)


def choice_id(cell: str, rule: str, trial: int | None, settings: Settings) -> str:
    """Return the id of a choice; one that a paper published has no trial."""
    return digest([cell, "choice", "published" if rule == PUBLISHED else trial, settings], 16)


def run_id(cell: str, seed: int, settings: Settings) -> str:
    """Return the id of a run."""
    return digest([cell, "run", seed, settings], 16)


def id_of(record: Record) -> str:
    """Return the id that ``record`` must have, from the rest of its content."""
    if isinstance(record, JobRecord):
        return job_id(record.cell, record.stage, record.number, record.fold, record.settings)
    if isinstance(record, TrialRecord):
        return trial_id(record.cell, record.number, record.settings)
    if isinstance(record, ChoiceRecord):
        return choice_id(record.cell, record.rule, record.trial, record.settings)
    if isinstance(record, RunRecord):
        return run_id(record.cell, record.seed, record.settings)
    return cell_id(record.identity)


def unit_name(stage: str, number: int) -> str:
    """Return what the names of a trial's or run's files begin with: ``trial-003``, ``seed-0``."""
    return f"trial-{number:03d}" if stage == "search" else f"seed-{number}"


def job_name(stage: str, number: int, fold: int) -> str:
    """Return the file name of one job: ``trial-003.fold-0.json`` or ``seed-0.fold-0.json``."""
    return f"{unit_name(stage, number)}.fold-{fold}.json"


def name_of(record: Record) -> str:
    """Return the file name that ``record`` has in its cell's folder."""
    if isinstance(record, JobRecord):
        return job_name(record.stage, record.number, record.fold)
    if isinstance(record, TrialRecord):
        return f"{unit_name('search', record.number)}.json"
    if isinstance(record, RunRecord):
        return f"{unit_name('final', record.seed)}.json"
    return f"{record.kind}.json"


def misplaced(record: Record, cell: str, name: str) -> str:
    """Return why ``record`` cannot be what lies in file ``name`` of ``cell``; empty if it can."""
    if (own := name_of(record)) != name:
        return f"holds another record, {own}"
    whose = record.id if isinstance(record, CellRecord) else record.cell
    if whose != cell:
        return f"belongs to another cell, {whose}"
    return "" if record.id == id_of(record) else "its id is not that of its content"


def examine(path: Path, cell: str) -> tuple[Record | None, str]:
    """Return the record at ``path`` of ``cell`` and "", or None and why it is not believed.

    Where there is no file it is None and "". Nothing is changed.
    """
    try:
        record = load(path)
    except FileNotFoundError:
        return None, ""
    except DamagedRecordError:
        return None, "damaged"
    why = misplaced(record, cell, path.name)
    return (None, why) if why else (record, "")
