"""Somebody else's rerun of a row: laid out as a study, and copied beside the claim."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from benchmark.study import records
from benchmark.study.folder import CellKey, Study
from benchmark.study.places import choice_id
from benchmark.study.records import CellRecord, ChoiceRecord
from benchmark.submissions.read import CHALLENGE, SEARCH, SubmittedRow, read_row
from benchmark.submissions.schema import Cell
from benchmark.submissions.submit import (
    ALL,
    Which,
    check_protocol,
    finished_cell,
    folder_of,
    wanted,
    write_once,
)
from protocols.errors import InvalidInputError, StoreError


def submit_challenge(
    study: Study, date: str, results: Path, form: Callable[[], bytes], which: Which = ALL
) -> list[Path]:
    """Copy the runs of a rerun beside the claims that it reran; return the files written.

    A reference row comes with every study: where its claim is of another cell, as an older one is,
    it is left out where all rows are meant.

    Args:
        study: the rerun.
        date: of the challenge.
        results: the folder.
        form: gives the challenge's TOML file, asked where there is none yet.
        which: rows whose runs to copy.
    """
    return write_once(_challenge_files(study, date, results, form, which))


def lay_out_rerun(row: Path, out: Path) -> Cell:
    """Write the claim of ``row`` and its choice into ``out``, so that only runs are left to do.

    Args:
        row: folder of a row, like results/quick/emoji/ms.
        out: output folder of the rerun.

    Returns:
        The claim's cell.

    Raises:
        StoreError: there is no such row, or ``out`` holds the cell already.
    """
    folder = row.resolve()
    if SEARCH.fullmatch(folder.name) and (folder.parent / Cell.file).is_file():
        raise StoreError(
            f"{row} is a further search beside a row: rerun {shlex.quote(str(row.parent))}"
        )
    cell = _claimed(folder.parents[2], folder)
    record = CellRecord(
        id=cell.id,
        protocol=cell.protocol,
        protocol_version=cell.protocol_version,
        dataset=cell.dataset,
        trunk=cell.trunk,
        recipe=cell.recipe,
        method=cell.method,
        row=cell.row,
        identity=cell.identity,
    )
    chosen = cell.chosen
    choice = ChoiceRecord(
        id=choice_id(cell.id, chosen.rule, chosen.trial, chosen.settings),
        cell=cell.id,
        **chosen.model_dump(),
    )
    key = CellKey(cell.id, cell.dataset, cell.trunk, cell.recipe, cell.method, cell.row)
    target = out / "records" / key.path
    if target.exists():
        raise StoreError(f"{target} exists already; give the rerun a folder of its own with --out")
    records.write(target / "cell.json", record)
    records.write(target / "choice.json", choice)
    return cell


def _claimed(results: Path, folder: Path) -> Cell:
    """Return the cell of a row in results/."""
    if not folder.is_dir():
        raise StoreError(f"no row {str(folder)!r}; expected a folder like results/quick/emoji/ms")
    row: SubmittedRow = read_row(results, folder)
    if row.cell is None:
        if not (folder / Cell.file).exists():
            raise StoreError(
                f"{folder} is no row: it has no {Cell.file}; expected a folder like "
                "results/quick/emoji/ms"
            )
        message, path = row.problems[0] if row.problems else ("does not read", row.place)
        raise StoreError(f"{results / path}: {message}")
    return row.cell


def _challenge_files(
    study: Study, date: str, results: Path, form: Callable[[], bytes], which: Which
) -> dict[Path, bytes]:
    """Return the files of a rerun, to lie beside the claim that it reran."""
    name = f"challenge-{date}"
    if not CHALLENGE.fullmatch(name):
        raise InvalidInputError(f"--challenge {date!r}: expected a date like 2026-01-31")
    shipped = check_protocol(study, any_seeds=True)
    files: dict[Path, bytes] = {}
    for key in wanted(study, which):
        folder = results / folder_of(shipped, key)
        if not (folder / Cell.file).is_file():
            continue  # a reference row that the rerun brought along and nobody claims
        claimed = _claimed(results, folder)
        if claimed.is_reference and claimed.id != key.id and which == ALL:
            continue
        finished = finished_cell(study, key)
        if (claimed.id, claimed.chosen.settings) != (key.id, finished.choice.settings):
            raise StoreError(
                f"{study.out} ran another cell than {folder} claims: code, data, rules and "
                f"setting must be the claim's. See: python -m benchmark rerun "
                f"{shlex.quote(str(folder))}"
            )
        files |= finished.run_files(folder / name)
        if not (folder / f"{name}.toml").exists():
            files[folder / f"{name}.toml"] = form()
    if not files:
        raise StoreError(f"nothing in {study.out} is a row of {results}")
    return files
