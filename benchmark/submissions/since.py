"""What changed since an earlier commit and no check can judge: lines for a human's eye.

A row that replaced another, whose keys are known, and rows that were made by a harness with edits
of its own. Entries of ``protocols/voided.toml`` are never removed, which is a problem (check 12).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmark.submissions import earlier, voided
from benchmark.submissions.earlier import Problem, Rows
from benchmark.submissions.git import History, Objects
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.signatures import SIGNERS

HARNESS = ("benchmark", "protocols")  # folders whose code makes a row's numbers
NAMED = 3  # files that a line names; the rest are counted
_VOIDED = "protocols/voided.toml"


def looks(
    results: Path, rows: Rows, history: History, base: str, before: Mapping[str, str]
) -> Iterator[str]:
    """Yield a line for each thing that somebody should look at.

    Args:
        results: the folder.
        rows: the rows as they are now, by place.
        history: its git checkout.
        base: the earlier commit.
        before: its files: path to git's hash of the content.
    """
    signers = results / SIGNERS
    if (signers.exists() or SIGNERS in before) and not (
        SIGNERS in before and earlier.is_still(signers, before[SIGNERS])
    ):
        yield f"{SIGNERS} has changed, which says whose keys are known: maintainers edit it"
    moved = dict(_replaced(results, rows, history, before))
    yield from moved.values()
    new = [row for place, row in rows.items() if place in moved or not _was_there(row, before)]
    yield from _other_harness(new, history, base)


def voids(history: History, base: str) -> Iterator[Problem]:
    """Yield entries of ``voided.toml`` that were there and are not any more."""
    with Objects(history.folder) as objects:
        old, new = (objects.text(f"{commit}:{_VOIDED}") for commit in (base, "HEAD"))
    try:
        before, now = (voided.parse(text or "") for text in (old, new))
    except ValueError:
        yield "does not read", f"../{_VOIDED}"
        return
    for entry in before:
        if entry not in now:
            yield (
                f"the entry of {entry.what} {entry.name}, {entry.since}, was changed or removed; "
                "expected it as it was: add another one",
                f"../{_VOIDED}",
            )


def _replaced(
    results: Path, rows: Rows, history: History, before: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield (place, line) of each row that has taken the place of an earlier one."""
    files = defaultdict[str, list[str]](list)
    for path in before:
        place, _, name = path.rpartition("/")
        rerun = name.startswith("challenge-") and name.endswith(".toml")
        if place in rows and (rerun or name.startswith("seed-")):
            files[place].append(path)
    for place, paths in sorted(files.items()):
        gone = [path for path in paths if not earlier.is_still(results / path, before[path])]
        if not any(earlier.is_replaced(rows, p, before[p], history) for p in gone):
            continue
        claim = rows[place].claim
        commit = claim.predecessor[:12] if claim else ""
        seeds = sum("/seed-" in path for path in gone)
        reruns = len(gone) - seeds
        line = f"{place}: {seeds} of the runs that it had in commit {commit} have been replaced"
        yield place, f"{line}; reruns gone with them: {reruns}" if reruns else line


def _was_there(row: SubmittedRow, before: Mapping[str, str]) -> bool:
    """Return whether the earlier commit has the row and all its reruns."""
    tomls = ("claim", *(rerun.name for rerun in row.reruns))
    return all(f"{row.place}/{name}.toml" in before for name in tomls)


def _other_harness(rows: Sequence[SubmittedRow], history: History, base: str) -> Iterator[str]:
    """Yield rows made at a commit beside ``base`` that has edited files of the harness.

    A method's file is new there, and held to the row's digest; an edit may move any number, and
    may be taken back before anybody looks.
    """
    made = defaultdict[str, list[str]](list)
    for row in rows:
        for runs in (*row.searches, *row.reruns):
            for commit in {run.environment.commit for run in runs.runs.values()}:
                if history.has(commit) and row.place not in made[commit]:
                    made[commit].append(row.place)
    for commit, places in made.items():
        files = history.changed(history.merge_base(base, commit), commit, HARNESS)
        if files:
            more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
            yield (
                f"{', '.join(places)}: made at commit {commit[:12]}, whose branch has edited "
                f"{', '.join(files[:NAMED])}{more}: do these edits move its numbers?"
            )
