"""Optuna's database as a copy of the searches: what it lacks is noted, and written by a next run.

The searches themselves are in the records. A database that is away, of another version or deleted
costs the copy only, and the same command run again makes it good.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.study import records
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import TrialRecord
from protocols.errors import StoreError
from protocols.space import Space

FILE = "search.behind"  # a line for each cell whose search the database lacks or has in part
AGAIN = "The results are safe; run the same command again to mend the copy"


def write(study: Study, cell: CellKey, space: Space, trials: Sequence[TrialRecord]) -> None:
    """Copy the finished trials of a cell, and strike out the note that it is behind.

    Raises:
        StoreError: the database cannot be used; that the cell is behind is noted.
    """
    from benchmark.study.suggestions import export, name_in_storage, storage_of  # loads optuna

    out = study.out
    name = name_in_storage(out, cell.path, study.protocol.rules_hash())
    try:
        export(storage_of(out), name, space, trials)
    except StoreError:
        note(study, cell)
        raise
    if cell.id in (noted := _noted(out)):
        _keep(out, noted - {cell.id})


def note(study: Study, cell: CellKey) -> None:
    """Keep in mind that the database lacks trials of ``cell``, or may if this process dies."""
    if cell.id not in (noted := _noted(study.out)):
        _keep(study.out, noted | {cell.id})


def behind(study: Study, cells: Sequence[CellKey]) -> list[CellKey]:
    """Return the cells whose trials the database is known to lack; asks no database."""
    gone = not os.environ.get("OPTUNA_STORAGE") and not (study.out / "search.db").exists()
    noted = _noted(study.out)
    return [cell for cell in cells if (gone or cell.id in noted) and study.trials(cell)]


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


def _noted(out: Path) -> set[str]:
    try:
        return set((out / FILE).read_text(encoding="ascii", errors="replace").split())
    except FileNotFoundError:
        return set()


def _keep(out: Path, cells: set[str]) -> None:
    if cells:
        records.write_bytes(out / FILE, "".join(f"{cell}\n" for cell in sorted(cells)).encode())
    else:
        (out / FILE).unlink(missing_ok=True)
