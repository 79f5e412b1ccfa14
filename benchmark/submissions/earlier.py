"""Files of results/ against an earlier commit: what was there is unchanged (check 12).

A row may be replaced: its claim then names as ``predecessor`` the commit that holds the earlier
files, the very ones of that commit. Reruns by others go with the runs that they are about, and stay
where a run does. A claim.toml is written by hand and may be mended, but not unseen: what it says of
who, hardware or price is named for a human's eye where it changed, and deviations that were stated
stay. What else a human should see: :mod:`benchmark.submissions.since`.
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
_RERUN = "challenge-"

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
        if is_still(results / path, content):
            continue
        done = "changed" if (results / path).exists() else "removed"
        if not is_replaced(rows, path, content, history):
            yield f"was {done} since it was submitted", path
        elif name.startswith(_RERUN) and (run := _old_run(results, rows, path, history, before)):
            yield f"was {done}, and {run} is still the run that it is about", path


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
            if is_still(results / path, content):
                continue
            replaced = is_replaced(rows, path, content, history)
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


def is_still(file: Path, content: str) -> bool:
    """Return whether a file has the content of that hash."""
    there = file.is_file() and not file.is_symlink()
    return there and git.blob(file.read_bytes()) == content


def is_replaced(rows: Rows, path: str, content: str, history: History) -> bool:
    """Return whether the row's claim names a commit that holds this very file."""
    row = rows.get(_split(path)[0])
    predecessor = row.claim.predecessor if row and row.claim else ""
    if not predecessor or not history.has(predecessor):
        return False
    return history.files(predecessor).get(path) == content


def _old_run(
    results: Path, rows: Rows, path: str, history: History, before: Mapping[str, str]
) -> str:
    """Return a file of the row's runs that is of a training which it had before; else empty.

    A training is known by the digest of its embeddings, and by what its queries found.
    """
    place = _split(path)[0]
    with Objects(history.folder) as objects:
        for seed, run in sorted(rows[place].runs.items()):
            name, values = f"{place}/seed-{seed}.json", f"{place}/values-{seed}.npz"
            same = values in before and is_still(results / values, before[values])
            text = objects.text(before[name]) if name in before else None
            if same or (run.embeddings_sha256 and run.embeddings_sha256 in (text or "")):
                return name
    return ""


def _split(path: str) -> tuple[str, str]:
    """Return (row's place, name inside the row); no name for files above the rows."""
    parts = path.split("/", 3)
    return ("/".join(parts[:3]), parts[3]) if len(parts) == 4 else (path, "")
