"""What the machine lost in a study: found, counted, and put aside to be done again.

A search goes on from what its earlier trials scored, and a lost trial scored as if it had been
the worst. So with the first lost trial of a cell go the choice and all later trials of the
search: they are suggested anew from the true scores. Folds stay where they are. One that comes up
again with the same setting, and every fold that a machine did not lose, is used as it is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from benchmark.study import failures, places
from benchmark.study.aside import later_aside
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import RunRecord, TrialRecord

MARK = "lost"


@dataclass(frozen=True)
class Lost:
    """The trials and runs of a cell that the machine lost."""

    cell: CellKey
    trials: tuple[TrialRecord, ...]
    runs: tuple[RunRecord, ...]

    def __bool__(self) -> bool:
        return bool(self.trials or self.runs)

    def most_jobs(self, study: Study) -> int:
        """Return how many trainings are done again if no setting comes up twice."""
        first = min((trial.number for trial in self.trials), default=None)
        if first is None:
            return len(self.runs) * study.protocol.folds
        again = study.trials_asked(self.cell) - first + study.runs_asked(self.cell)
        return again * study.protocol.folds

    @property
    def words(self) -> str:
        """Return for example ``trials 3, 7 (2 oom), seed 1 (1 crash)``."""
        units = (
            ("trial", [trial.number for trial in self.trials], failures.in_words(self.trials)),
            ("seed", [run.seed for run in self.runs], failures.in_words(self.runs)),
        )
        return ", ".join(
            f"{unit}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} ({reasons})"
            for unit, numbers, reasons in units
            if numbers
        )


def lost_in(study: Study, cell: CellKey) -> Lost:
    """Return what the machine lost of the cell; change nothing."""
    trials = (trial for trial in study.trials(cell) if failures.lost(trial))
    runs = (run for run in study.runs(cell) if failures.lost(run))
    return Lost(cell, tuple(trials), tuple(runs))


def put_aside(study: Study, lost: Lost) -> None:
    """Rename the records of what was lost and of all that was made from it.

    Runs that are done stay: one that was made with the setting that is chosen again is what it
    would be again, and one with another setting is made anew.
    """
    folder = study.folder(lost.cell)
    for name in _made_anew(study, lost):
        with suppress(FileNotFoundError):
            (folder / name).replace(folder / f"{name}.{MARK}")
    later_aside(study, lost.cell)


def done_again(study: Study, lost: Lost) -> set[str]:
    """Return the names of the records that do not count once ``lost`` is done again.

    Those that :func:`put_aside` renames, and folds that were lost, which stay and are trained anew.
    """
    names = set(_made_anew(study, lost))
    if lost.trials:
        first = lost.trials[0].number
        names |= {places.name_of(t) for t in study.trials(lost.cell) if t.number > first}
    units = [("search", trial.number) for trial in lost.trials]
    units += [("final", run.seed) for run in lost.runs]
    for stage, number in units:
        folds = study.jobs(lost.cell, stage, number)
        names |= {places.name_of(job) for job in folds if job and failures.lost(job)}
    return names


def _made_anew(study: Study, lost: Lost) -> list[str]:
    """Return the names of what was lost and of runs and choices made from it, in their order.

    What was lost goes last: after an interruption it is still there to be found.
    """
    names = []
    if lost.trials:
        # A run without a setting has failed with all trials; it may get one now.
        names += [places.name_of(r) for r in study.runs(lost.cell) if failures.untried(r)]
        names += ["choice.json"]
    names += [places.name_of(run) for run in lost.runs]
    names += [places.name_of(trial) for trial in reversed(lost.trials)]
    return list(dict.fromkeys(names))
