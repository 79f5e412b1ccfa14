"""Watched runs of a study under ``--oracle-gap``, copied beside the rows that trained the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmark.study.folder import CellKey, Study
from benchmark.study.records import RunRecord
from benchmark.submissions import schema, watching
from benchmark.submissions.packing import watched_fields
from benchmark.submissions.read import SubmittedRow, read_row
from benchmark.submissions.schema import Cell
from benchmark.submissions.submit import (
    ALL,
    Submission,
    Which,
    check_protocol,
    folder_of,
    wanted,
    write_once,
)
from benchmark.submissions.watched import Watched
from protocols.errors import StoreError

_Watched = tuple[Path, bytes]  # a file and its content


def submit_watched(study: Study, results: Path, which: Which = ALL) -> Submission:
    """Copy ``oracle-N.json`` beside the rows of ``results`` that have the same trainings.

    No row is made of such a study: its test classes were opened more often. What belongs beside no
    row is left out with a line; so are rows that train nothing, which have no epoch to choose.

    Args:
        study: one under ``--oracle-gap``, with any number of seeds.
        results: the folder.
        which: rows whose runs to copy.

    Raises:
        UnknownNameError: a method or dataset that the study does not have.
        StoreError: the rules are not a shipped protocol's, or nothing of the study belongs beside
            a row; nothing is written then.
    """
    shipped = check_protocol(study, any_seeds=True, watched=True)
    files: dict[Path, bytes] = {}
    left_out, there = list[str](), list[Path]()
    for key in wanted(study, which):
        if not key.trains:
            continue
        folder = results / folder_of(shipped, key)
        row = _row_of(results, folder, key)
        if isinstance(row, str):
            left_out.append(f"{folder}: {row}")
            continue
        there += [folder] if row.watched else []
        for found in _files(study, key, folder, row):
            if isinstance(found, str):
                left_out.append(found)
            else:
                files[found[0]] = found[1]
    if not files and not there:
        why = f"{left_out[0]}" if left_out else "it has no run that trains"
        more = f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else ""
        raise StoreError(f"nothing of {study.out} belongs beside a row of {results}: {why}{more}")
    return Submission(write_once(files), there, left_out)


def _row_of(results: Path, folder: Path, key: CellKey) -> SubmittedRow | str:
    """Return the row of a cell, or why it has none that something can lie beside."""
    if not (folder / Cell.file).is_file():
        return "no such row; submit its study without --oracle-gap first"
    row = read_row(results, folder)
    if row.cell is None or row.problems:
        message, path = row.problems[0]
        return f"the row has a problem: {message} @ {path}"
    if row.cell.id != key.id:
        return "the row is of another cell: code, data and rules must be the same"
    return row


def _files(study: Study, key: CellKey, folder: Path, row: SubmittedRow) -> Iterator[_Watched | str]:
    """Yield the files that the row lacks, or why a seed has none."""
    runs, asked = study.runs(key), study.runs_asked(key)
    if len(runs) < asked:
        yield f"{folder}: {len(runs)} of {asked} runs are watched. Run the same command again"
    for run in runs:
        if run.seed in row.watched or run.status != "done":
            continue
        path = folder / f"oracle-{run.seed}.json"
        content = _content(study, key, run, row)
        yield f"{path}: {content}" if isinstance(content, str) else (path, content)


def _content(study: Study, key: CellKey, run: RunRecord, row: SubmittedRow) -> bytes | str:
    """Return the file of a watched run, or why it is none of the row's."""
    jobs = [job for job in study.jobs(key, "final", run.seed) if job]
    if len(jobs) != study.protocol.folds or not all(job.oracle for job in jobs):
        return "the records of its folds are not all there"
    content = schema.pack(watched_fields(run, jobs))
    watched = Watched.model_validate_json(content)
    return watching.fault_of(row, watched) or content
