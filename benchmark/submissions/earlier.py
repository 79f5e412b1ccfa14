"""Files of results/ against an earlier commit: what was there is unchanged (check 12).

A row may be replaced: its claim then names as ``predecessor`` the commit that holds the earlier
files, the very ones of that commit. A claim.toml is written by hand and may be mended, but not
unseen: what it says of who, hardware or price is named for a human's eye where it changed, and
deviations that were stated stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.submissions import bounds, git
from benchmark.submissions.git import History, Objects
from benchmark.submissions.loose import SNAPSHOTS
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Claim
from benchmark.submissions.signatures import CLAIM, SUFFIX
from protocols.errors import InvalidInputError

_ONCE = ("cell.json", "trials.jsonl", "seed-", "values-", "challenge-", "search-", "oracle-")
_SIGNATURE = f"{CLAIM}{SUFFIX}"
_FREE = frozenset({"predecessor", "note"})  # fields of a claim that may change unsaid
_DEVIATIONS = "deviations"

Problem = tuple[str, str]  # message, path below the results folder
Rows = Mapping[str, SubmittedRow]  # by place


def edited(
    results: Path, rows: Rows, history: History, before: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield files that are written once and were changed or removed.

    Args:
        results: the folder.
        rows: the rows as they are now.
        history: its git checkout.
        before: the files of the earlier commit: path to git's hash of the content.
    """
    for path, content in before.items():
        _, name = _split(path)
        if not path.startswith(f"{SNAPSHOTS}/") and not name.startswith(_ONCE):
            continue
        if not _is_still(results / path, content) and not _replaced(rows, path, content, history):
            done = "changed" if (results / path).exists() else "removed"
            yield f"was {done} since it was submitted", path


def claims(
    results: Path, rows: Rows, history: History, before: Mapping[str, str]
) -> tuple[list[Problem], list[str]]:
    """Return what became of claims and their signatures: problems, and lines for a human's eye.

    A row that is gone as a whole is for :func:`edited`.
    """
    met, looks = list[Problem](), list[str]()
    with Objects(history.folder) as objects:
        for path, content in before.items():
            place, name = _split(path)
            if name not in (Claim.file, _SIGNATURE) or place not in rows:
                continue
            if _is_still(results / path, content):
                continue
            replaced = _replaced(rows, path, content, history)
            if name == _SIGNATURE:
                if (results / path).exists():
                    looks.append(f"{place}: {name} was made anew")
                elif not replaced:
                    met.append(("was removed since it was submitted", path))
                continue
            for field, old, new in _changes(objects.text(content) or "", results / path):
                if field == _DEVIATIONS and old and not replaced:
                    message = f"{field} was {old!r:.120}, is {new!r:.120}: what was stated stays"
                    met.append((message, path))
                else:
                    looks.append(f"{place}: {name}: {field} was {old!r:.120}, is {new!r:.120}")
    return met, looks


def _changes(before: str, path: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yield (field, old, new) of a claim; nothing where it does not read, which is said already."""
    try:
        old = bounds.parse_toml(before.encode())
        new = bounds.parse_toml(bounds.content(path))
    except (OSError, ValueError, RecursionError, InvalidInputError):
        return
    for field in sorted({*old, *new} - _FREE):
        if old.get(field, "") != new.get(field, ""):
            yield field, old.get(field, ""), new.get(field, "")


def _is_still(file: Path, content: str) -> bool:
    """Return whether a file has the content of that hash."""
    there = file.is_file() and not file.is_symlink()
    return there and git.blob(file.read_bytes()) == content


def _replaced(rows: Rows, path: str, content: str, history: History) -> bool:
    """Return whether the row's claim names a commit that holds this very file."""
    row = rows.get(_split(path)[0])
    predecessor = row.claim.predecessor if row and row.claim else ""
    if not predecessor or not history.has(predecessor):
        return False
    return history.files(predecessor).get(path) == content


def _split(path: str) -> tuple[str, str]:
    """Return (row's place, name inside the row); no name for files above the rows."""
    parts = path.split("/", 3)
    return ("/".join(parts[:3]), parts[3]) if len(parts) == 4 else (path, "")
