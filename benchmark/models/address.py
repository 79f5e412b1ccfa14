"""Which model of a study is meant: a method's name, or a cell, a seed and a fold."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmark.study import weights
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import JobRecord, RunRecord
from protocols.errors import InvalidInputError, unknown_name

_FORM = re.compile(r"(?P<cell>.+?)(/seed-(?P<seed>\d+)([./]fold-(?P<fold>\d+))?)?/?")


@dataclass(frozen=True)
class Address:
    """Fold models of one finished run; ``joined`` where they make one model together."""

    cell: CellKey
    run: RunRecord
    folds: tuple[int, ...]
    joined: bool = True

    @property
    def text(self) -> str:
        """Return the address as it is typed."""
        fold = "" if self.joined else f"/fold-{self.folds[0]}"
        return f"{self.cell.path}/seed-{self.run.seed}{fold}"


def find(study: Study, text: str) -> Address:
    """Return what ``text`` means in ``study``: ``ms``, ``ms/seed-1``, ``ms/seed-1/fold-0``.

    In place of a method's name may stand a cell's folder below ``records/``, with or without
    the digits at its end. Without a seed it is the one that validated best, without a fold the
    joined model of all folds.

    Raises:
        UnknownNameError: no such cell.
        InvalidInputError: several cells are meant, or the run or the fold does not exist.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise InvalidInputError(f"model {text!r}: expected a name like ms or ms/seed-0/fold-1")
    cell = _cell(study, form["cell"])
    run = _run(study, cell, form["seed"])
    folds = tuple(range(study.protocol.folds))
    if form["fold"] is None:
        return Address(cell, run, folds)
    if int(form["fold"]) not in folds:
        raise InvalidInputError(
            f"model {text!r}: folds of this study are {', '.join(map(str, folds))}"
        )
    return Address(cell, run, (int(form["fold"]),), joined=False)


def jobs_of(study: Study, address: Address) -> list[JobRecord]:
    """Return the records of the address's trainings.

    Raises:
        InvalidInputError: one is not there any more.
    """
    found = study.jobs(address.cell, "final", address.run.seed)
    jobs = [job for fold in address.folds if (job := found[fold]) is not None]
    if len(jobs) < len(address.folds):
        raise InvalidInputError(
            f"{address.text}: its records are incomplete; run the study's command again"
        )
    return jobs


def _cell(study: Study, name: str) -> CellKey:
    names = {cell.id: _names(cell) for cell in study.all_cells}
    for rank in range(4):
        found = [cell for cell in study.all_cells if names[cell.id][rank] == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidInputError(
                f"model {name!r}: {len(found)} cells have this name. Say which: "
                f"{', '.join(names[cell.id][2] for cell in found)}"
            )
    known = {cell.row for cell in study.all_cells} | {part[2] for part in names.values()}
    raise unknown_name("model", name, known)


def _names(cell: CellKey) -> tuple[str, str, str, str]:
    """Return what a cell is called, the shortest name first."""
    folder, _, last = cell.path.rpartition("/")
    return (cell.row, cell.method, f"{folder}/{last.rpartition('-')[0]}", cell.path)


def _run(study: Study, cell: CellKey, seed: str | None) -> RunRecord:
    if seed is None:
        run = weights.best_run(study, cell)
        if run is None:
            raise InvalidInputError(
                f"{cell.row} on {cell.dataset} has no finished run yet; run the study first"
            )
        return run
    run = study.run(cell, int(seed))
    if run is None or run.status != "done":
        done = [str(run.seed) for run in study.runs(cell) if run.status == "done"]
        raise InvalidInputError(
            f"{cell.row} has no finished seed {seed}; finished are: {', '.join(done) or 'none'}"
        )
    return run
