"""What killed processes leave behind in an output folder: parts of files, embeddings of no use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from benchmark.study import failures
from benchmark.study.folder import Study

_PART = re.compile(r"\..+\.(\d+)\.part")
_FOLDERS = ("records", "queries", "vectors", "weights", "partial", "cache", "tables", "report")


def clean(study: Study) -> int:
    """Remove what no process and no unfinished run needs any more; return how many files.

    Only whoever holds the folder's lock may call this. A part whose process still lives here is
    left: ``tables`` and ``report`` write without the lock.
    """
    gone = useless(study)
    for path in gone:
        with suppress(FileNotFoundError):
            path.unlink()
    return len(gone)


def useless(study: Study) -> list[Path]:
    """Return what :func:`clean` removes."""
    found = [path for path, pid in _parts(study.out) if not _alive(pid)]
    if vectors := list((study.out / "vectors").rglob("*.npz")):
        waiting = _waiting(study)
        found += [path for path in vectors if path not in waiting]
    return found


def _parts(out: Path) -> Iterator[tuple[Path, int]]:
    """Yield parts of files that were being written in the study's folders, and by which process."""
    paths = [*out.iterdir()] if out.is_dir() else []
    for folder in _FOLDERS:
        paths += (out / folder).rglob(".*.part")
    for path in paths:
        if part := _PART.fullmatch(path.name):
            yield path, int(part[1])


def _waiting(study: Study) -> set[Path]:
    """Return where test embeddings may wait: for a run not recorded, or lost to the machine."""
    return {
        study.vectors_path(cell, seed, fold)
        for cell in study.all_cells
        for seed in range(study.runs_asked(cell))
        if (run := study.run(cell, seed)) is None or failures.lost(run)
        for fold in range(study.protocol.folds)
    }


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return pid != os.getpid()
