"""Weights that final runs leave behind: a file a fold below ``weights/``, named by their records.

A training's record carries the checksum of its weights whether they are kept or not, so what is
kept changes no record. A file is written before its record; one that is not what its record says
goes aside. Which are kept is said once for a folder and holds until another word is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from benchmark.study import checksums
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import RunRecord, write_bytes
from protocols.errors import StoreError

Keep = Literal["none", "best", "all"]
DEFAULT: Keep = "best"
CHOICES: tuple[Keep, ...] = get_args(Keep)


@dataclass(frozen=True)
class Lacking:
    """A finished training whose weights are to be kept and are not there."""

    cell: CellKey
    run: RunRecord
    fold: int


def folder(study: Study, cell: CellKey) -> Path:
    """Return where the weights of a cell lie."""
    return study.out / "weights" / cell.path


def path_of(study: Study, cell: CellKey, seed: int, fold: int) -> Path:
    """Return where the weights of one fold of one seed lie, if they are kept."""
    return folder(study, cell) / f"seed-{seed}.fold-{fold}.safetensors"


def kept_in(out: Path) -> Keep:
    """Return what the folder keeps: what was said last, or the default.

    Raises:
        StoreError: the file that says it holds another word.
    """
    path = _rule(out)
    try:
        word = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return DEFAULT
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read {path}: {error}. Delete it: the default holds") from error
    for known in CHOICES:
        if word == known:
            return known
    raise StoreError(
        f"{path} says {word[:20]!r}, expected {', '.join(CHOICES)}. Delete it, or say --keep"
    )


def remember(out: Path, keep: Keep) -> None:
    """Write down what the folder keeps from now on.

    Raises:
        StoreError: it cannot be written.
    """
    if keep != kept_in(out):
        write_bytes(_rule(out), f"{keep}\n".encode())


def best_run(study: Study, cell: CellKey) -> RunRecord | None:
    """Return the done run that validated best, the lowest seed among equals; None without one.

    By validation, as every choice here: the test classes choose nothing.
    """
    metric = study.protocol.selection_metric
    done = [run for run in study.runs(cell) if run.status == "done" and run.validation]
    return max(done, key=lambda run: ((run.validation or {})[metric], -run.seed), default=None)


def wanted_runs(study: Study, cell: CellKey, keep: Keep) -> list[RunRecord]:
    """Return the done runs whose weights are to be kept."""
    if keep == "all":
        return [run for run in study.runs(cell) if run.status == "done"]
    best = best_run(study, cell) if keep == "best" else None
    return [best] if best else []


def missing_folds(study: Study, cell: CellKey, seed: int) -> list[int]:
    """Return the folds of a run whose weights are not there."""
    folds = range(study.protocol.folds)
    return [fold for fold in folds if not path_of(study, cell, seed, fold).is_file()]


def lacking(study: Study, cells: Sequence[CellKey], keep: Keep) -> list[Lacking]:
    """Return the finished trainings whose weights are missing, by cell, seed and fold."""
    return [
        Lacking(cell, run, fold)
        for cell in cells
        for run in wanted_runs(study, cell, keep)
        for fold in missing_folds(study, cell, run.seed)
    ]


def prune(study: Study, cell: CellKey, keep: Keep) -> None:
    """Remove the weights of finished runs that are not to be kept.

    Worse seeds go once all weights of the best one are there: whatever is interrupted, the best
    ones stay. Weights of a run that is not recorded yet wait for it.
    """
    wanted = {run.seed for run in wanted_runs(study, cell, keep)}
    if any(missing_folds(study, cell, seed) for seed in wanted):
        return
    for run in study.runs(cell):
        if run.seed not in wanted:
            for fold in range(study.protocol.folds):
                path_of(study, cell, run.seed, fold).unlink(missing_ok=True)


def set_aside(study: Study, cell: CellKey) -> list[str]:
    """Rename the weights that are not what their record says; return their names.

    Those of a training that is not recorded are left: it is done again and writes them anew.
    """
    lost = []
    for path, expected in _recorded(study, cell):
        try:
            intact = checksums.of_file(path) == expected
        except FileNotFoundError:
            continue
        except OSError:
            intact = False
        if not intact:
            with suppress(FileNotFoundError):
                path.replace(path.with_name(f"{path.name}.damaged"))
            lost.append(path.name)
    return lost


def _recorded(study: Study, cell: CellKey) -> Iterator[tuple[Path, str | None]]:
    """Yield the place of the weights of every recorded final training, and their checksum."""
    if not folder(study, cell).is_dir():
        return
    for seed in range(study.protocol.seeds):
        for fold, job in enumerate(study.jobs(cell, "final", seed)):
            if job is not None:
                yield path_of(study, cell, seed, fold), job.weights_sha256


def _rule(out: Path) -> Path:
    return out / "weights" / "keep"
