"""Every problem of results/ at once, by twelve checks; nothing is imported, run or unpickled.

1 form, no unknown fields · 2 the protocol as it is now, else the row is stale and shown apart ·
3 exactly the protocol's seeds · 4 settings inside the space · 5 the choice is what the rule picks ·
6 the search kept to its budget · 7 one commit, clean, in history · 8 one content per dataset ·
9 metrics that can be true · 10 no two seeds with identical embeddings · 11 the leaderboard
rebuilds byte for byte · 12 files that were there before are unchanged.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from benchmark.submissions import git, leaderboard
from benchmark.submissions.check import Problem, problems_of
from benchmark.submissions.git import History
from benchmark.submissions.read import SubmittedRow
from protocols.protocol import Protocol

_ONCE = ("cell.json", "trials.jsonl", "seed-")


def problems(
    results: Path, rows: list[SubmittedRow], history: History | None, since: str | None = None
) -> list[Problem]:
    """Return every problem, by path.

    Args:
        results: the folder.
        rows: what is in it, from :func:`benchmark.submissions.read.read_row`.
        history: its git checkout; without one checks 7 and 12 see files only.
        since: a branch or commit: files it has must be unchanged; the current commit if None.
    """
    known = leaderboard.shipped_protocols()
    met = [problem for row in rows for problem in problems_of(row, known, history)]
    met += _stray(results)
    met += _datasets(rows, known)
    met += _leaderboard(results, rows)
    if history:
        met += _edited(results, rows, history, since)
    return sorted(set(met), key=lambda problem: (problem[1], problem[0]))


def _stray(results: Path) -> Iterator[Problem]:
    """Yield links, which may lead anywhere; what else lies above the rows is for people."""
    for folder, inner, files in os.walk(results):
        for name in (*inner, *files):
            path = Path(folder, name)
            if path.is_symlink():
                yield "a link; expected a file or folder", path.relative_to(results).as_posix()


def _datasets(rows: Iterable[SubmittedRow], known: Mapping[str, Protocol]) -> Iterator[Problem]:
    """Yield current rows on other images than most rows of their dataset (check 8)."""
    digests: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        if row.cell and leaderboard.is_current(row.cell, known):
            content = str(row.cell.identity.get("dataset_digest"))
            digests[row.cell.dataset].append((content, row.place))
    for dataset, contents in digests.items():
        ((most, _),) = Counter(content for content, _ in contents).most_common(1)
        for content, place in contents:
            if content != most:
                message = f"{dataset} has content {content[:12]}, in other rows {most[:12]}"
                yield message, f"{place}/cell.json"


def _leaderboard(results: Path, rows: list[SubmittedRow]) -> Iterator[Problem]:
    """Yield generated files that are not what the rows make (check 11)."""
    for path, content in leaderboard.build(results, rows).items():
        name = path.relative_to(results).as_posix()
        if path.is_symlink():
            yield "a link; expected a file", name
        elif not path.is_file() or path.read_bytes() != content:
            command = shlex.join(("verify", str(results), "--rebuild"))
            yield f"is not what the rows make: python -m benchmark {command}", name


def _edited(
    results: Path, rows: list[SubmittedRow], history: History, since: str | None
) -> Iterator[Problem]:
    """Yield files that an earlier commit has and that were changed or removed (check 12).

    A row may be replaced: its claim then names as ``predecessor`` the commit that holds the
    earlier files, the very ones of ``since``.
    """
    before = history.files(history.merge_base(since) if since else "HEAD")
    places = {row.place: row for row in rows}
    for path, content in before.items():
        place, _, name = _split(path)
        if not name.startswith(_ONCE) and not name.startswith("challenge-"):
            continue
        file = results / path
        if file.is_file() and not file.is_symlink() and git.blob(file.read_bytes()) == content:
            continue
        row = places.get(place)
        if not (row and row.claim and _replaced(row.claim.predecessor, path, content, history)):
            yield f"was {'changed' if file.exists() else 'removed'} since it was submitted", path


def _replaced(predecessor: str, path: str, content: str, history: History) -> bool:
    if not predecessor or not history.has(predecessor):
        return False
    return history.files(predecessor).get(path) == content


def _split(path: str) -> tuple[str, str, str]:
    """Return (row's place, "/", name inside the row); no name for files above the rows."""
    parts = path.split("/", 3)
    return ("/".join(parts[:3]), "/", parts[3]) if len(parts) == 4 else (path, "", "")
