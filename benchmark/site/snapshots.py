"""Frozen leaderboards: the table of a month as a CSV file in results/, and never changed again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.study.records import write_bytes
from benchmark.submissions.loose import MONTH, SNAPSHOTS, leaderboard_fault
from protocols.errors import InvalidInputError

FOLDER = SNAPSHOTS


@dataclass(frozen=True)
class Snapshot:
    """A frozen leaderboard: its month and the bytes of its CSV file."""

    name: str
    content: bytes


def snapshots(results: Path) -> list[Snapshot]:
    """Return the snapshots in ``results``, the latest first.

    Raises:
        InvalidInputError: one is no leaderboard.
    """
    found = []
    for path in sorted((results / FOLDER).glob("*.csv"), reverse=True):
        if MONTH.fullmatch(path.stem):
            content = path.read_bytes()
            if fault := leaderboard_fault(content):
                raise InvalidInputError(f"{path}: {fault}. Take it away, or restore it from git")
            found.append(Snapshot(path.stem, content))
    return found


def freeze(results: Path, month: str, content: bytes) -> Path:
    """Write the leaderboard of ``month`` and return its file.

    Raises:
        InvalidInputError: no month, or it has a snapshot already.
        StoreError: the disk is full or cannot be written.
    """
    if not MONTH.fullmatch(month):
        raise InvalidInputError(f"--snapshot {month!r}: expected a month like 2026-12")
    path = results / FOLDER / f"{month}.csv"
    if path.exists():
        raise InvalidInputError(f"{path} is there already: a snapshot is never changed")
    write_bytes(path, content)
    return path
