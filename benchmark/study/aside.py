"""What is not believed goes aside, with all that was made from it, and its work is done again.

A record is believed if it is whole, proves its place and agrees with the records that it was made
from: a trial with its folds, a choice with its trials, a run with the choice, its folds and the
file of its per-query results. What goes aside undamaged comes out the same again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from benchmark.study import failures, places, queries, selection
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import ChoiceRecord, JobRecord, Record, RunRecord, TrialRecord

GONE = "gone"
SHOWN = 3
Held = dict[str, Record]


def set_aside(study: Study, cell: CellKey) -> dict[str, str]:
    """Rename the cell's records that are not believed, and those made from them.

    A trial or run goes aside with one of its folds, the choice with one of its trials.

    Returns:
        Why each of them is not believed, by file name; a file that is gone has a name too.
    """
    folder, lost = study.folder(cell), faults(study, cell)
    above = made_from(lost)
    # What was made from a lost record goes first: if this is interrupted, the lost ones are
    # still there to be noticed.
    for names, mark in ((above - lost.keys(), "aside"), (lost.keys(), "damaged")):
        for name in sorted(names):
            with suppress(FileNotFoundError):
                (folder / name).replace(folder / f"{name}.{mark}")
    later_aside(study, cell)
    return lost


def made_from(lost: Iterable[str]) -> set[str]:
    """Return the names of records that were made from those in ``lost``, by name alone."""
    stems = {name.partition(".fold-")[0] for name in lost if ".fold-" in name}
    above = {f"{stem}.json" for stem in stems}
    if any(name.startswith("trial-") for name in {*lost, *above}):
        above.add("choice.json")
    return above


def later_aside(study: Study, cell: CellKey) -> None:
    """Rename trials that were suggested after one that the machine lost and that is gone.

    They were suggested from a score that the lost trial did not have. A trial that is gone for
    another reason comes out the same again, and so would those after it.
    """
    folder = study.folder(cell)
    there = {path.name for path in folder.glob("trial-*.json") if ".fold-" not in path.name}
    names = [f"{places.unit_name('search', n)}.json" for n in range(study.trials_asked(cell))]
    first = next((n for n, name in enumerate(names) if name not in there), len(names))
    later = there.intersection(names[first:])
    if later and any(job and failures.lost(job) for job in study.jobs(cell, "search", first)):
        for name in sorted(later, reverse=True):
            (folder / name).replace(folder / f"{name}.aside")


def in_words(lost: dict[str, str]) -> str:
    """Return how many records are lost and why the first of them are, in one line."""
    some = [f"{name} ({why})" for name, why in sorted(lost.items())[:SHOWN]]
    more = [f"{len(lost) - SHOWN} more"] if len(lost) > SHOWN else []
    records = "1 record" if len(lost) == 1 else f"{len(lost)} records"
    return f"{records} not believed: {', '.join(some + more)}"


def faults(study: Study, cell: CellKey) -> dict[str, str]:
    """Return why records of the cell are not believed, by file name; change nothing."""
    return believed(study, cell)[1]


def believed(study: Study, cell: CellKey) -> tuple[Held, dict[str, str]]:
    """Return the cell's records that are believed, and why others are not; both by file name.

    A record that was made from one that is not believed is in neither.
    """
    held, lost = _read(study, cell)
    for name, why in _disagreements(study, cell, held):
        lost.setdefault(name, why)
    gone = lost.keys() | made_from(lost)
    return {name: record for name, record in held.items() if name not in gone}, lost


def missing_trial(study: Study, cell: CellKey, trials: Sequence[TrialRecord]) -> str | None:
    """Return the name of the first trial that a finished search has lost, None if none is.

    A search that has left nothing at all is that of a rerun: its choice was made elsewhere.
    """
    if not trials and not any(study.folder(cell).glob("trial-*.json*")):
        return None
    limit = study.protocol.search.max_failures_in_a_row
    if len(trials) >= study.trials_asked(cell) or selection.hopeless(trials, limit):
        return None
    return f"{places.unit_name('search', len(trials))}.json"


def other_choice(choice: ChoiceRecord, trials: Sequence[TrialRecord]) -> str:
    """Return why the rule does not make this choice from these trials, empty if it does.

    A choice by another rule, or from trials that are not here, is not judged.
    """
    if not trials or choice.rule != selection.BEST_TRIAL:
        return ""
    best = selection.choose(trials)
    expected = (best.number, best.settings, best.value) if best else (None, {}, None)
    met = (choice.trial, choice.settings, choice.value)
    return "" if met == expected else "not what the rule picks from the trials"


def _read(study: Study, cell: CellKey) -> tuple[Held, dict[str, str]]:
    """Return the cell's records that prove their place, and why others do not."""
    folder, held, lost = study.folder(cell), Held(), dict[str, str]()
    try:
        there = set(os.listdir(folder))
    except FileNotFoundError:
        return held, lost
    for name in _names(study, cell):
        if name in there:
            record, why = places.examine(folder / name, cell.id)
            if why:
                lost[name] = why
            elif record is not None:
                held[name] = record
        elif f"{name}.damaged" in there:  # an earlier run was interrupted before it was redone
            lost[name] = "kept aside before"
    return held, lost


def _names(study: Study, cell: CellKey) -> Iterator[str]:
    """Yield the names of all records that the cell may have."""
    yield from ("cell.json", "choice.json")
    units = {"search": study.trials_asked(cell), "final": study.protocol.seeds}
    for stage, count in units.items():
        for number in range(count):
            yield f"{places.unit_name(stage, number)}.json"
            for fold in range(study.protocol.folds):
                yield places.job_name(stage, number, fold)


def _disagreements(study: Study, cell: CellKey, held: Held) -> Iterator[tuple[str, str]]:
    """Yield (name, why) of records that are gone or do not agree with those they belong to."""
    choice = held.get("choice.json")
    for name, record in held.items():
        if isinstance(record, TrialRecord | RunRecord):
            yield from _folds(record, held)
        if isinstance(record, RunRecord):
            if isinstance(choice, ChoiceRecord) and record.settings != choice.settings:
                yield name, "made with another setting than the chosen one"
            elif record.queries and (why := queries.fault(study.out, record)):
                yield name, f"its per-query results are {why}"
    if isinstance(choice, ChoiceRecord) and cell.searched:
        yield from _search(study, cell, choice, held)


def _folds(record: TrialRecord | RunRecord, held: Held) -> Iterator[tuple[str, str]]:
    stage, number = (
        ("final", record.seed) if isinstance(record, RunRecord) else ("search", record.number)
    )
    for fold in range(len(record.folds)):
        name = places.job_name(stage, number, fold)
        job = held.get(name)
        if not isinstance(job, JobRecord):
            yield name, GONE
        elif job.settings != record.settings:
            yield name, "made with another setting than its trial or run"


def _search(
    study: Study, cell: CellKey, choice: ChoiceRecord, held: Held
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a finished search: a trial that is gone, or another choice."""
    found = [record for record in held.values() if isinstance(record, TrialRecord)]
    first = next((n for n, trial in enumerate(found) if trial.number != n), len(found))
    if missing := missing_trial(study, cell, found[:first]):
        yield missing, GONE
    elif why := other_choice(choice, found):
        yield "choice.json", why
