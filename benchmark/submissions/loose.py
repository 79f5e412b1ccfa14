"""Files of results/ that belong to no row: which there may be, and what a snapshot must be.

A snapshot is shown as "the leaderboard of" its month, so it must be one: in form, and by its bytes
in the history of ``leaderboard.csv``. Whoever makes numbers up for a month can commit them as a
leaderboard too, but there the rows of that commit say otherwise.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from benchmark.submissions import bounds, git
from benchmark.submissions.findings import page
from benchmark.submissions.git import History
from benchmark.submissions.leaderboard import FILE as LEADERBOARD
from benchmark.submissions.leaderboard import README
from benchmark.submissions.signatures import SIGNERS
from protocols.errors import InvalidInputError

SNAPSHOTS = "snapshots"
MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_PICTURE, _OUTPUT = "emoji-classes.png", "output.txt"
_MAX_SNAPSHOT, _MAX = 16 << 20, 1 << 20  # bytes; a leaderboard of 150 rows takes 0.3 MB
# Columns that a page of a snapshot shows; what they hold, and where they may be empty.
_TEXTS = frozenset({"protocol", "protocol_hash", "dataset", "trunk", "recipe", "method"})
_TEXTS |= {"embedding", "metric", "verdict", "verified"}
_COUNTS = ("protocol_version", "n", "runs")
_FRACTIONS = ("mean", "ci_low", "ci_high")

Problem = tuple[str, str]  # message, path below the results folder


def faults(results: Path) -> Iterator[Problem]:
    """Yield links, which may lead anywhere, and files that have no place above the rows."""
    for folder, inner, files in os.walk(results):
        for name in (*inner, *files):
            path = Path(folder, name)
            place = path.relative_to(results)
            if path.is_symlink():
                yield "a link; expected a file or folder", place.as_posix()
            elif name in files and len(place.parts) <= 3 and (fault := _fault(path, place)):
                yield fault, place.as_posix()


def _fault(path: Path, place: Path) -> str:
    """Return why a file does not belong where it lies, "" where it does."""
    *folders, name = place.parts
    allowed = {
        0: (README, LEADERBOARD, SIGNERS, _PICTURE),
        1: (page.FILE,),
        2: (_OUTPUT,),
    }[len(folders)]
    if folders == [SNAPSHOTS]:
        return _snapshot_fault(path)
    if name not in allowed or folders[:1] == [SNAPSHOTS]:
        return f"does not belong here; expected folders of rows, and {' or '.join(allowed)}"
    size = path.lstat().st_size
    if size > _MAX and name != LEADERBOARD:  # whose bytes are compared with what the rows make
        return f"{size} bytes; expected {_MAX} at most"
    return ""


def _snapshot_fault(path: Path) -> str:
    if path.suffix != ".csv" or not MONTH.fullmatch(path.stem):
        return f"does not belong here; expected snapshots like {SNAPSHOTS}/2026-12.csv"
    try:
        return leaderboard_fault(bounds.content(path, _MAX_SNAPSHOT))
    except (OSError, InvalidInputError) as error:
        return str(error)


def leaderboard_fault(content: bytes) -> str:
    """Return in one line why ``content`` cannot be shown as a leaderboard, "" where it can."""
    try:
        header, *rows = list(csv.reader(io.StringIO(content.decode("utf-8")), strict=True)) or [[]]
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start}"
    except csv.Error as error:
        return f"does not read as CSV: {error}"
    if lacking := sorted({*_TEXTS, *_COUNTS, *_FRACTIONS} - set(header)):
        return f"is no leaderboard: it lacks the columns {', '.join(lacking)}"
    if len(set(header)) < len(header):
        return "is no leaderboard: a column stands there twice"
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            return f"line {number}: {len(row)} fields; expected {len(header)}"
        held = dict(zip(header, row, strict=True))
        for name in (n for n in _COUNTS if not (held[n].isascii() and held[n].isdecimal())):
            return f"line {number}: {name} {held[name]!r:.40}; expected a whole number"
        for name in (n for n in _FRACTIONS if not _is_fraction(held[n])):
            return f"line {number}: {name} {held[name]!r:.40}; expected a fraction, or nothing"
    return ""


def _is_fraction(text: str) -> bool:
    """Return whether a field is empty or a number near 0 to 1: an interval may end outside."""
    try:
        return not text or math.isfinite(float(text))
    except ValueError:
        return False


def unproven(results: Path, history: History | None) -> tuple[list[Problem], list[str]]:
    """Return the snapshots that were never the leaderboard, and those of which nobody can tell.

    Returns:
        problems, where the whole history is at hand and no commit has these bytes; and lines for a
        human's eye, where it is not, or the leaderboard was first committed in a later month.
    """
    met, looks = list[Problem](), list[str]()
    paths = sorted((results / SNAPSHOTS).glob("*.csv"))
    whole = history if history and not history.shallow else None
    dates = whole.first_days(LEADERBOARD) if whole and paths else {}
    now = _blob(results / LEADERBOARD)
    for path in paths:
        place, own = path.relative_to(results).as_posix(), _blob(path)
        if own is None:
            continue  # named with the faults of form
        if whole is None:
            why = "no whole history of git here"
            looks.append(f"{place}: whether it ever was the leaderboard was not looked up: {why}")
        elif own not in dates and own != now:
            met.append((f"is not {LEADERBOARD} of any commit: a snapshot is a copy of it", place))
        elif dates.get(own, "")[:7] > path.stem:
            looks.append(f"{place}: these bytes were first committed on {dates[own]}")
    return met, looks


def _blob(path: Path) -> str | None:
    """Return git's hash of a file, None where it cannot be read within bounds."""
    try:
        return git.blob(bounds.content(path, _MAX_SNAPSHOT))
    except (OSError, InvalidInputError):
        return None
