"""results/ as it lies on disk: every row with what its files hold and what is wrong with them.

Reading runs nothing: JSON and TOML with strict types. A link is never followed and a file larger
than any submission needs is not opened.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from benchmark.submissions.schema import (
    Cell,
    Challenge,
    Claim,
    Run,
    Trial,
    checksum,
    compact,
    lines_of,
)

MAX_BYTES = 1 << 20
CHALLENGE = re.compile(r"challenge-\d{4}-\d{2}-\d{2}")

M = TypeVar("M", bound=BaseModel)


@dataclass
class Rerun:
    """A challenge with its runs, by seed."""

    name: str
    challenge: Challenge | None = None
    runs: dict[int, Run] = field(default_factory=dict)


@dataclass
class SubmittedRow:
    """One folder of results/ as far as it could be read; ``problems`` says what could not.

    Attributes:
        place: ``<protocol>/<dataset>/<folder>``.
        problems: (message, path below the results folder).
    """

    place: str
    cell: Cell | None = None
    claim: Claim | None = None
    trials: list[Trial] = field(default_factory=list)
    runs: dict[int, Run] = field(default_factory=dict)
    reruns: list[Rerun] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def read_row(results: Path, folder: Path) -> SubmittedRow:
    """Return what ``folder`` holds, with every problem of form in it."""
    row = SubmittedRow(folder.relative_to(results).as_posix())
    for path in _files(folder, row, results):
        name = path.name
        if name == Cell.file:
            row.cell = _read_json(path, Cell, row, results)
        elif name == "trials.jsonl":
            row.trials = _read_trials(path, row, results)
        elif name == "claim.toml":
            row.claim = _read_toml(path, Claim, row, results)
        elif (seed := _seed(name)) is not None:
            if run := _read_json(path, Run, row, results):
                row.runs[seed] = run
        elif path.suffix == ".toml" and CHALLENGE.fullmatch(path.stem):
            row.reruns.append(_read_rerun(path, row, results))
        elif not CHALLENGE.fullmatch(name) or not path.is_dir():
            row.problems.append(("does not belong into a row's folder", _where(path, results)))
        elif not path.with_name(f"{name}.toml").is_file():
            row.problems.append((f"runs of a challenge without {name}.toml", _where(path, results)))
    return row


def row_folders(results: Path) -> list[Path]:
    """Return the folders three levels below ``results``, in order, none by way of a link."""
    levels = [results]
    for _ in range(3):
        levels = [p for folder in levels for p in folder.iterdir() if p.is_dir()]
        levels = [p for p in levels if not p.is_symlink()]
    return sorted(levels)


def _files(folder: Path, row: SubmittedRow, results: Path) -> Iterator[Path]:
    """Yield what a folder holds; links are not followed."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            row.problems.append((f"larger than {MAX_BYTES >> 20} MB", _where(path, results)))
        else:
            yield path


def _read_rerun(path: Path, row: SubmittedRow, results: Path) -> Rerun:
    rerun = Rerun(path.stem, _read_toml(path, Challenge, row, results))
    folder = path.with_suffix("")
    for file in _files(folder, row, results) if folder.is_dir() and not folder.is_symlink() else ():
        seed = _seed(file.name)
        if seed is None:
            row.problems.append(("does not belong to a challenge", _where(file, results)))
        elif run := _read_json(file, Run, row, results):
            rerun.runs[seed] = run
    return rerun


def _seed(name: str) -> int | None:
    found = re.fullmatch(r"seed-(0|[1-9][0-9]{0,5})\.json", name)
    return int(found[1]) if found else None


def _read_json(path: Path, model: type[M], row: SubmittedRow, results: Path) -> M | None:
    where = _where(path, results)
    try:
        content = path.read_bytes()
        body = json.loads(content)
        if not isinstance(body, dict):
            raise ValueError("expected an object")
        canonical = lines_of(body)
    except (OSError, ValueError, RecursionError) as error:
        row.problems.append((f"does not read as JSON: {_short(error)}", where))
        return None
    if content != canonical:
        row.problems.append(("is not laid out as `submit` writes it", where))
    if body.get("sha256") != checksum(body):
        row.problems.append(("was edited: its checksum is not that of its content", where))
    return _parse(body, model, row, where)


def _read_trials(path: Path, row: SubmittedRow, results: Path) -> list[Trial]:
    where, found = _where(path, results), []
    content = path.read_bytes()
    if row.cell and hashlib.sha256(content).hexdigest() != row.cell.trials_sha256:
        row.problems.append(("was edited: its checksum is not the one in cell.json", where))
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            body = json.loads(line)
            if f"{compact(body)}\n".encode() != line:
                row.problems.append((f"line {number} is not laid out as `submit` does", where))
        except (ValueError, RecursionError) as error:
            row.problems.append((f"line {number} does not read as JSON: {_short(error)}", where))
            continue
        if trial := _parse(body, Trial, row, where, f"line {number}: "):
            found.append(trial)
    return found


def _read_toml(path: Path, model: type[M], row: SubmittedRow, results: Path) -> M | None:
    where = _where(path, results)
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        row.problems.append((f"does not read as TOML: {_short(error)}", where))
        return None
    return _parse(body, model, row, where)


def _parse(body: Any, model: type[M], row: SubmittedRow, where: str, prefix: str = "") -> M | None:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False):
            name = ".".join(map(str, one["loc"])) or "content"
            row.problems.append((f"{prefix}{name}: {one['msg']}, met {one['input']!r:.80}", where))
        return None


def _where(path: Path, results: Path) -> str:
    return path.relative_to(results).as_posix()


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:120]
