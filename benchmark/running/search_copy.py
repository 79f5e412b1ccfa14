"""Optuna's database as a copy of the searches: what it lacks is noted, and written by a next run.

The searches themselves are in the records. A database that is away, of another version or deleted
costs the copy only, and the same command run again makes it good.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.study import records
from benchmark.study.addresses import without_password
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import TrialRecord
from protocols.errors import StoreError
from protocols.space import Space

if TYPE_CHECKING:
    from benchmark.study.suggestions import Shown

FILE = "search.behind"  # a line for each cell whose search the database lacks or has in part
COPIED = "search.json"  # which database that is, and what it is told of a search
LAYOUT = 2  # goes up when searches are to be written otherwise: those that are there are outdated
AGAIN = "The results are safe; run the same command again to mend the copy"


def write(study: Study, cell: CellKey, space: Space, trials: Sequence[TrialRecord]) -> None:
    """Copy the finished trials of a cell, and strike out the note that it is behind.

    Raises:
        StoreError: the database cannot be used; that the cell is behind is noted.
    """
    from benchmark.study.suggestions import export, storage_of  # loads optuna

    lacking = _lacking(study)  # before the export, which makes a database that was gone
    try:
        export(storage_of(study.out), _shown(study, cell, trials), space, trials)
    except StoreError:
        note(study, cell)
        raise
    _keep(study.out, lacking - {cell.id})


def _shown(study: Study, cell: CellKey, trials: Sequence[TrialRecord]) -> Shown:
    """Return what the database says of a search beside its trials."""
    from benchmark.study.suggestions import Shown, name_in_storage

    protocol, choice = study.protocol, study.choice(cell)
    about = {
        **{"dataset": cell.dataset, "trunk": cell.trunk, "recipe": cell.recipe, "method": cell.row},
        "search": cell.repeat,
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "rules_hash": protocol.rules_hash(),
        "chosen_trial": choice.trial if choice else None,
    }
    written = [study.record_path(cell, trial).stat().st_mtime for trial in trials]
    name = name_in_storage(study.out, cell.path, protocol.rules_hash())
    return Shown(name, f"validation_{protocol.selection_metric}", about, written)


def note(study: Study, cell: CellKey) -> None:
    """Keep in mind that the database lacks trials of ``cell``, or may if this process dies."""
    _keep(study.out, _lacking(study) | {cell.id})


def behind(study: Study, cells: Sequence[CellKey]) -> list[CellKey]:
    """Return the cells whose trials the database is known to lack; asks no database."""
    lacking = _lacking(study)
    return [cell for cell in cells if cell.id in lacking and study.trials(cell)]


def mend(
    study: Study,
    cells: Sequence[CellKey],
    space_of: Callable[[CellKey], Space],
    say: Callable[[str], None],
) -> None:
    """Copy the searches that the database lacks, and say so; or say why that cannot be."""
    lacking = behind(study, cells)
    try:
        for cell in lacking:
            write(study, cell, space_of(cell), study.trials(cell))
    except StoreError as error:
        say(f"{error}. {AGAIN}")
    else:
        if lacking:
            say(f"{len(lacking)} search(es) copied to Optuna's database, which lacked them")


def _lacking(study: Study) -> set[str]:
    """Return the ids of the cells that are noted, or of all: those of another database are."""
    out = study.out
    gone = not os.environ.get("OPTUNA_STORAGE") and not (out / "search.db").exists()
    if gone or _read(out / COPIED) != _stamp():
        return {cell.id for cell in study.all_cells if study.trials(cell)}
    return set(_read(out / FILE).split())


def _keep(out: Path, cells: set[str]) -> None:
    """Note which cells the database lacks, then of which database that is said.

    In this order, so that whoever is killed in between leaves all of them to be copied.
    """
    for name, text in ((FILE, "".join(f"{c}\n" for c in sorted(cells))), (COPIED, _stamp())):
        if not text:
            (out / name).unlink(missing_ok=True)
        elif _read(out / name) != text:
            records.write_bytes(out / name, text.encode())


def _stamp() -> str:
    """Return what ``COPIED`` holds of the database that is written now; no password."""
    storage = without_password(os.environ.get("OPTUNA_STORAGE") or "search.db")
    return json.dumps({"storage": storage, "layout": LAYOUT}, indent=1) + "\n"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
