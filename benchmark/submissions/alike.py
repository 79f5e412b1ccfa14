"""What must differ and is the same: seeds, rows, trials, a rerun and its claim.

Two trainings from different seeds give different numbers to the last bit, so equal ones are one
training handed in twice. Two cases are honest: of some rows the trunk is never trained, and
embeddings that collapsed to a point all rank the files in their order. Those show in the ties, and
find no more than chance does. Runs that are nearly the same: :mod:`benchmark.submissions.nearly`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256

import numpy as np

from benchmark.submissions.read import Runs, SubmittedRow
from benchmark.submissions.schema import Run, compact
from benchmark.submissions.values import Values
from protocols.metrics import METRICS

_TIMES = ("seconds", "train_s")
_CHANCE = 2.0  # times the share of the largest class: above what the order of the files finds

Problem = tuple[str, str]  # message, path below the results folder
Marks = dict[str, str]  # what is compared: in words -> digest of it


def marks_of(run: Run, values: Values | None) -> Marks:
    """Return what no other training may have, by what it is; nothing of a run that failed."""
    if run.status == "failed" or run.concatenated is None:
        return {}
    found = {"the very embeddings": run.embeddings_sha256, "the very queries": run.queries_sha256}
    if not collapsed(run, values):
        scores = run.concatenated.model_dump_json()
        found["the very scores"] = sha256(scores.encode()).hexdigest()
        if values:
            joined = b"".join(values.found[name][0].tobytes() for name in METRICS)
            found["the very values of every query"] = sha256(joined).hexdigest()
    return {what: mark for what, mark in found.items() if mark}


def within(row: SubmittedRow) -> Iterator[Problem]:
    """Yield seeds of one row, or of one rerun, that are one training, and trials all alike."""
    if not row.untrained:
        yield from _seeds(row, row.place)
        for rerun in row.reruns:
            yield from _seeds(rerun, f"{row.place}/{rerun.name}")
    yield from _trials(row)


def _seeds(runs: Runs, place: str) -> Iterator[Problem]:
    seen: dict[tuple[str, str], int] = {}
    for seed, run in sorted(runs.runs.items()):
        for mark in marks_of(run, runs.values.get(seed)).items():
            if (other := seen.setdefault(mark, seed)) != seed:
                yield f"has {mark[0]} of seed {other}", f"{place}/seed-{seed}.json"
                break


def _trials(row: SubmittedRow) -> Iterator[Problem]:
    """Yield trials that repeat a setting, and a search that found the same under all settings.

    A search never repeats a setting. It may find the same everywhere where every training
    collapsed, and then the final runs did too.
    """
    path, first = f"{row.place}/trials.jsonl", dict[str, int]()
    for trial in row.trials:
        other = first.setdefault(compact(trial.settings), trial.number)
        if other != trial.number:
            yield f"trial {trial.number}: the settings of trial {other}; expected others", path
    done = [tuple(trial.folds) for trial in row.trials if trial.status == "done"]
    if len(done) > 1 and len(set(done)) == 1 and not all_collapsed(row):
        yield f"all {len(done)} trials have the folds {list(done[0])}, under other settings", path


def equal_trials(row: SubmittedRow) -> Iterator[str]:
    """Yield in a line each which trials of a search, under other settings, found the very same.

    It is honest where a hyperparameter does nothing or trainings collapsed; where all trials are
    alike it is a problem already.
    """
    by_folds = defaultdict[tuple[float | None, ...], list[int]](list)
    for trial in row.trials:
        if trial.status == "done":
            by_folds[tuple(trial.folds)].append(trial.number)
    for folds, numbers in by_folds.items():
        if len(numbers) > 1 and len(by_folds) > 1:
            which = " and ".join(map(str, numbers))
            yield f"{row.place}: trials {which} have identical fold scores {list(folds)}"


def between(rows: Iterable[tuple[SubmittedRow, Mapping[int, Marks]]]) -> Iterator[Problem]:
    """Yield runs that a row of another method, trunk or recipe has too; the first keeps them.

    Each row comes with the marks of its runs by seed. Further searches of one cell are as unlike.

    The same under another version of the protocol may honestly find the same numbers: the
    seeds are the same, and what the version moved may not concern the row.
    """
    seen: dict[tuple[str, str], tuple[object, str]] = {}
    for row, marks in rows:
        cell = row.cell
        if cell is None or row.untrained:
            continue
        trained = (cell.method, cell.trunk, cell.recipe, row.search)
        for seed, found in marks.items():
            path = f"{row.place}/seed-{seed}.json"
            for mark in found.items():
                other, where = seen.setdefault(mark, (trained, path))
                if other != trained:
                    yield f"has {mark[0]} of {where}", path
                    break


def copied(row: SubmittedRow) -> Iterator[Problem]:
    """Yield runs of a rerun that nobody ran again.

    On the same processor a rerun finds the claim's bits at the same seed; the times differ. So a
    copy has times of the claim too, or another seed's bits. One time of one run may be the same
    by chance, to the millisecond; of two runs hardly.
    """
    if not row.reruns:
        return
    claimed = {
        mark: seed
        for seed, run in row.runs.items()
        for mark in marks_of(run, row.values.get(seed)).items()
    }
    for rerun in row.reruns:
        shared = {
            seed: count
            for seed, run in rerun.runs.items()
            if (count := _times_shared(row, seed, run))
        }
        for seed, run in sorted(rerun.runs.items()):
            path = f"{row.place}/{rerun.name}/seed-{seed}.json"
            marks = marks_of(run, rerun.values.get(seed)).items()
            other = next((claimed[m] for m in marks if claimed.get(m, seed) != seed), None)
            if other is not None and not row.untrained:
                yield f"has the very results of the claim's seed {other}", path
            elif seed in shared and (len(shared) > 1 or shared[seed] == len(_TIMES)):
                yield f"has the very times of the claim's seed {seed}: a copy, not a rerun", path


def _times_shared(row: SubmittedRow, seed: int, run: Run) -> int:
    """Return how many times a run shares with the claim's of the same seed and the same bits."""
    claim = row.runs.get(seed)
    if claim is None or run.status != "done" or claim.status != "done":
        return 0
    if run.embeddings_sha256 != claim.embeddings_sha256:
        return 0
    if row.untrained:  # no time of training, so that one time is all there is
        return len(_TIMES) * (run.seconds == claim.seconds)
    return sum(getattr(run, name) == getattr(claim, name) for name in _TIMES)


def all_collapsed(row: Runs) -> bool:
    """Return whether all runs collapsed, as of a method whose every training does."""
    return all(collapsed(run, row.values.get(seed)) for seed, run in row.runs.items())


def collapsed(run: Run, values: Values | None) -> bool:
    """Return whether most queries' values depend on the order of the files alone.

    A run says itself how many its ties are, so it is believed only where it finds no more than
    that order does: MAP@R near the share of the largest class. Without ``values`` it is not.
    """
    if values is None or run.concatenated is None:
        return False
    _, counts = np.unique(values.labels, return_counts=True)
    chance = _CHANCE * counts.max() / counts.sum()
    tied = (run.ties or 0) > len(values.labels) / 2
    return tied and bool(run.concatenated.map_at_r <= chance)
