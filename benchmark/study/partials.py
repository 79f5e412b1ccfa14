"""Trainings that were begun and not ended: a checkpoint of each, until its record is written.

They are no truth: without them a training starts anew and comes out the same.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from benchmark.study import failures, places
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import JobRecord
from protocols.errors import StoreError

FOLDER = "partial"
SUFFIX = ".pt"


def path_of(study: Study, cell: CellKey, stage: str, number: int, fold: int) -> Path:
    """Return where the checkpoint of a job lies, absolute: a worker may stand elsewhere."""
    name = places.job_name(stage, number, fold).removesuffix(".json") + SUFFIX
    return (study.out / FOLDER / cell.path / name).absolute()


def make_room(path: Path) -> None:
    """Make the folder of a checkpoint; without it a worker writes none.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make {path.parent}: {error.strerror}. What is recorded is safe: make room or "
            "write access and run the same command again"
        ) from error


def tidy(study: Study) -> int:
    """Remove what no training goes on from; return how many unfinished ones can.

    That is a checkpoint of a job that has a record, of a cell that is no longer in the study, or
    one that was set aside. One of a job that the machine lost stays: it may be asked for again.
    Only whoever holds the folder's lock may call this.
    """
    root = study.out / FOLDER
    for path in useless(study):
        path.unlink()
    for folder, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):  # one that is not empty
            Path(folder).rmdir()
    cells = {Path(cell.path): cell for cell in study.all_cells}
    return sum(
        _unrecorded(study, cells[path.parent.relative_to(root)], path) for path in _files(root)
    )


def useless(study: Study) -> list[Path]:
    """Return the checkpoints that :func:`tidy` removes."""
    root, found = study.out / FOLDER, []
    cells = {Path(cell.path): cell for cell in study.all_cells}
    for path in _files(root):
        cell = cells.get(path.parent.relative_to(root))
        if cell is None or path.suffix != SUFFIX or _recorded(study, cell, path):
            found.append(path)
    return found


def _files(root: Path) -> list[Path]:
    """Return the files of a folder; parts of files are cleaned with others."""
    paths = sorted(root.rglob("*"))
    return [path for path in paths if not path.is_dir() and not path.name.startswith(".")]


def _recorded(study: Study, cell: CellKey, path: Path) -> bool:
    """Return whether the training of a checkpoint has a record that the machine did not lose."""
    record, _ = places.examine(_record_of(study, cell, path), cell.id)
    return record is not None and not (isinstance(record, JobRecord) and failures.lost(record))


def _unrecorded(study: Study, cell: CellKey, path: Path) -> bool:
    """Return whether the training of a checkpoint has no record at all."""
    return places.examine(_record_of(study, cell, path), cell.id) == (None, "")


def _record_of(study: Study, cell: CellKey, path: Path) -> Path:
    return study.folder(cell) / path.with_suffix(".json").name
