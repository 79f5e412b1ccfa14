"""Frozen leaderboards: the table of a month as a CSV file in results/, and never changed again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from benchmark.study.records import write_bytes
from protocols.errors import InvalidInputError

FOLDER = "snapshots"
_NAME = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Snapshot:
    """A frozen leaderboard: its month and the bytes of its CSV file."""

    name: str
    content: bytes


def snapshots(results: Path) -> list[Snapshot]:
    """Return the snapshots in ``results``, the latest first."""
    paths = sorted((results / FOLDER).glob("*.csv"), reverse=True)
    return [Snapshot(p.stem, p.read_bytes()) for p in paths if _NAME.fullmatch(p.stem)]


def freeze(results: Path, month: str, content: bytes) -> Path:
    """Write the leaderboard of ``month`` and return its file.

    Raises:
        InvalidInputError: no month, or it has a snapshot already.
        StoreError: the disk is full or cannot be written.
    """
    if not _NAME.fullmatch(month):
        raise InvalidInputError(f"--snapshot {month!r}: expected a month like 2026-12")
    path = results / FOLDER / f"{month}.csv"
    if path.exists():
        raise InvalidInputError(f"{path} is there already: a snapshot is never changed")
    write_bytes(path, content)
    return path
