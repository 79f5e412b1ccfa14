"""Every problem of results/ at once, by thirteen checks; nothing is imported, run or unpickled.

1 form, no unknown fields, nothing too large or too deep · 2 the protocol as it is now, else the
row is stale and shown apart · 3 exactly the protocol's seeds · 4 settings inside the space, which
is the one that the method's file declares · 5 the choice is what the rule picks · 6 search, steps,
images and seconds inside the budget, on one kind of machine · 7 one commit, clean, in history, with
the code, recipe and trunk that the row names · 8 one content and one test set per dataset · 9
metrics that can be true and follow from every query's · 10 no two seeds, rows or reruns that are
one training · 11 the leaderboard rebuilds byte for byte, a snapshot is an earlier one, and nothing
else lies about · 12 files that were there before are unchanged · 13 signatures are of the files as
they are. What lies beside a row as evidence is held to the same, and to its row
(:mod:`benchmark.submissions.searches` and ``watching``).
"""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.submissions import (
    alike,
    bounds,
    budget,
    earlier,
    front,
    leaderboard,
    loose,
    nearly,
    signatures,
    standout,
    together,
)
from benchmark.submissions import since as since_then
from benchmark.submissions.checking import checked
from benchmark.submissions.findings import page
from benchmark.submissions.git import History
from benchmark.submissions.kept import Kept, Problem
from benchmark.submissions.read import SubmittedRow
from protocols.errors import InvalidInputError

SHOWN = 10  # problems of one file; the rest are counted
_LONGEST = 400  # characters of a message


@dataclass(frozen=True)
class Findings:
    """What a check of results/ found.

    Attributes:
        rows: all of them, without their per-query values.
        stale: how many are of a protocol that has changed since.
        problems: (message, path below the folder), by path; bounded in number and length.
        looks: what is for a human's eye and no problem: rows out of line with the others, with the
            statistic, settings that do not follow, trials with equal scores, claims that changed,
            snapshots nobody can prove.
        unread: rows whose search space cannot be told without running their method, and why.
    """

    rows: list[SubmittedRow]
    stale: int
    problems: list[Problem]
    looks: list[str]
    unread: dict[str, str]


def examine(results: Path, history: History | None, since: str | None = None) -> Findings:
    """Return all that is wrong or odd in results/; every file is read once.

    Args:
        results: the folder.
        history: its git checkout; without one checks 7 and 12 see files only.
        since: a branch or commit: files it has must be unchanged; the current commit if None.
    """
    known = leaderboard.shipped_protocols()
    rows = checked(results, history)
    cells = [(kept, kept.row.cell) for kept in rows]
    current = [kept for kept, cell in cells if cell and leaderboard.is_current(cell, known)]
    met = [problem for kept in rows for problem in kept.problems]
    met += loose.faults(results)
    unproven, looks = loose.unproven(results, history)
    met += unproven
    met += together.faults(rows, current)
    # Rows come first: where a rerun and a row are one training, the rerun is the copy.
    every = [search for kept in rows for search in kept.searches]
    every += [rerun for kept in rows for rerun in kept.reruns]
    same = list(alike.between((one.row, one.marks) for one in every))
    copies, near = nearly.between((one.row, one.sampled) for one in every)
    named = {path for _, path in same}  # that it agrees with the other one goes without saying
    met += [*same, *(problem for problem in copies if problem[1] not in named)]
    met += signatures.faults(results, [results / kept.row.place for kept in rows])
    met += _leaderboard(results, rows)
    if history:
        places = {kept.row.place: kept.row for kept in rows}
        base = history.merge_base(since) if since else "HEAD"
        before = history.files(base)
        met += earlier.edited(results, places, history, before)
        if since:
            met += since_then.voids(history, base)
            changed, seen = earlier.claims(results, places, history, before)
            met, looks = met + changed, looks + seen
            looks += since_then.looks(results, places, history, base, before)
    stale = sum(cell is not None for _, cell in cells) - len(current)
    looks += near + standout.looks(kept.row for kept in current)
    looks += [line for kept in current for line in kept.looks]
    looks += [
        line
        for kept in current
        for search in kept.row.searches
        for line in (
            *alike.equal_trials(search),
            *budget.looks(search),
        )
    ]
    unread = {kept.row.place: kept.unread for kept in rows if kept.unread}
    return Findings([kept.row for kept in rows], stale, _bounded(met), looks, unread)


def _bounded(met: Iterable[Problem]) -> list[Problem]:
    """Return each problem once, by path, only some of each path and none of them long."""
    by_path: dict[str, list[str]] = defaultdict(list)
    for message, path in sorted(set(met), key=lambda problem: (problem[1], problem[0])):
        short = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} …"
        by_path[path].append(short)
    return [
        (message, path)
        for path, those in by_path.items()
        for message in (*those[:SHOWN], *_more(len(those) - SHOWN))
    ]


def _more(count: int) -> Iterator[str]:
    if count > 0:
        yield f"and {count} problems more"


def _leaderboard(results: Path, rows: list[Kept]) -> Iterator[Problem]:
    """Yield generated files that are not what the rows make (check 11)."""
    readme = results / leaderboard.README
    if fault := front.readme_fault(readme):
        yield fault, readme.name
    made = leaderboard.build(results, rows)
    yield from front.faults(results, {p.parent.name for p in made if p.name == page.FILE})
    for path in sorted(results.glob(f"*/{page.FILE}")):
        if path not in made:
            yield "no rows make it: remove it", path.relative_to(results).as_posix()
    for path, content in made.items():
        name = Path(os.path.relpath(path, results)).as_posix()
        try:
            same = bounds.content(path, limit=len(content)) == content
        except FileNotFoundError:
            same = False
        except (OSError, InvalidInputError) as error:
            same = False
            if path.is_symlink() or not path.is_file():
                yield str(error), name
                continue
        if not same:
            command = shlex.join(("verify", str(results), "--rebuild"))
            yield f"is not what the rows make: python -m benchmark {command}", name
