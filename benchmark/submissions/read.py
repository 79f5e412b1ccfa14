"""results/ as it lies on disk: every row with what its files hold and what is wrong with them.

Reading runs nothing: JSON, TOML and arrays with strict types, within the bounds of
:mod:`benchmark.submissions.bounds`. A link is never followed.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from benchmark.submissions import bounds, values
from benchmark.submissions.identity import Identity
from benchmark.submissions.schema import (
    LAST_REPEATED,
    Cell,
    Challenge,
    Claim,
    Run,
    Trial,
    compact,
    laid_out,
)
from benchmark.submissions.values import Values
from protocols.errors import InvalidInputError

MAX_FILES = 2_500  # in a row's folder: two for each of 1,000 seeds, and challenges
MAX_FAULTY_LINES = 5  # of trials.jsonl; what follows is not read
CHALLENGE = re.compile(r"challenge-\d{4}-\d{2}-\d{2}")

M = TypeVar("M", bound=BaseModel)


@dataclass
class Runs:
    """Runs by seed, and what each found for every query."""

    runs: dict[int, Run] = field(default_factory=dict)
    values: dict[int, Values] = field(default_factory=dict)


@dataclass
class Rerun(Runs):
    """A challenge with its runs."""

    name: str = ""
    challenge: Challenge | None = None


@dataclass
class SubmittedRow(Runs):
    """One folder of results/ as far as it could be read; ``problems`` says what could not.

    Attributes:
        place: ``<protocol>/<dataset>/<folder>``.
        problems: (message, path below the results folder).
    """

    place: str = ""
    cell: Cell | None = None
    claim: Claim | None = None
    trials: list[Trial] = field(default_factory=list)
    reruns: list[Rerun] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    @property
    def untrained(self) -> bool:
        """Return whether no image was trained on: seeds and rows may have one set of vectors."""
        trained = [run.counts.get("images_trained") for run in self.runs.values()]
        reference = self.cell is not None and self.cell.is_reference
        return reference or (bool(trained) and not any(count != 0 for count in trained))

    @property
    def fixed(self) -> bool:
        """Return whether nothing is drawn: no training, on a trunk that starts from weights."""
        if not self.untrained or self.cell is None:
            return False
        return self.cell.made_of.weights != "none" and not self.cell.made_of.trunk_drawn

    @property
    def runs_asked(self) -> int:
        """Return how many runs the row must have: one where all of them would be the same."""
        assert self.cell is not None
        repeated = self.cell.protocol_version <= LAST_REPEATED
        return 1 if self.fixed and not repeated else self.cell.seeds


def read_row(results: Path, folder: Path) -> SubmittedRow:
    """Return what ``folder`` holds, with every problem of form in it."""
    row = SubmittedRow(place=folder.relative_to(results).as_posix())
    for path in _files(folder, row, results):
        name = path.name
        if name == Cell.file:
            row.cell = _read_cell(path, row, results)
        elif name == "trials.jsonl":
            row.trials = _read_trials(path, row, results)
        elif name == "claim.toml":
            row.claim = _read_toml(path, Claim, row, results)
        elif path.suffix == ".toml" and CHALLENGE.fullmatch(path.stem):
            row.reruns.append(_read_rerun(path, row, results))
        elif path.suffix == ".sig" and path.with_suffix(".toml").is_file():
            continue  # what it is worth is found out apart
        elif not _read_run(path, row, row, results) and not CHALLENGE.fullmatch(name):
            row.problems.append(("does not belong into a row's folder", _where(path, results)))
        elif CHALLENGE.fullmatch(name) and not path.with_name(f"{name}.toml").is_file():
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
    """Yield the files of a folder, and folders of challenges; what is neither is a problem."""
    found = list(islice(folder.iterdir(), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        row.problems.append((f"more than {MAX_FILES} files", _where(folder, results)))
        return
    for path in sorted(found):
        mode = path.lstat().st_mode
        challenge = stat.S_ISDIR(mode) and CHALLENGE.fullmatch(path.name)
        if stat.S_ISREG(mode) or challenge:
            yield path
        elif not stat.S_ISLNK(mode):  # a link is named with those elsewhere
            what = f"{bounds.kind_of(mode)}; expected a file"
            row.problems.append((what, _where(path, results)))


def _read_rerun(path: Path, row: SubmittedRow, results: Path) -> Rerun:
    rerun = Rerun(name=path.stem, challenge=_read_toml(path, Challenge, row, results))
    folder = path.with_suffix("")
    for file in _files(folder, row, results) if folder.is_dir() and not folder.is_symlink() else ():
        if not _read_run(file, rerun, row, results):
            row.problems.append(("does not belong to a challenge", _where(file, results)))
    return rerun


def _read_run(path: Path, runs: Runs, row: SubmittedRow, results: Path) -> bool:
    """Read a run's file, or what it found for every query; return whether the name is of one."""
    found = re.fullmatch(r"(seed|values)-(0|[1-9][0-9]{0,5})\.(json|npz)", path.name)
    kind = (found[1], found[3]) if found else None
    if found and kind == ("seed", "json"):
        if run := _read_json(path, Run, row, results):
            runs.runs[int(found[2])] = run
    elif found and kind == ("values", "npz"):
        try:
            runs.values[int(found[2])] = values.unpack(bounds.content(path))
        except (OSError, InvalidInputError) as error:
            row.problems.append((_short(error), _where(path, results)))
    else:
        return False
    return True


def _read_cell(path: Path, row: SubmittedRow, results: Path) -> Cell | None:
    cell = _read_json(path, Cell, row, results)
    whole = cell and _parse(cell.identity, Identity, row, _where(path, results), "identity.")
    return cell if whole else None


def _read_json(path: Path, model: type[M], row: SubmittedRow, results: Path) -> M | None:
    where = _where(path, results)
    try:
        content = bounds.content(path)
        body = bounds.parse_json(content)
        if not isinstance(body, dict):
            raise ValueError("expected an object")
        canonical, sha256 = laid_out(body)
    except InvalidInputError as error:
        row.problems.append((str(error), where))
        return None
    except (OSError, ValueError, RecursionError) as error:
        row.problems.append((f"does not read as JSON: {_short(error)}", where))
        return None
    if content != canonical:
        row.problems.append(("is not laid out as `submit` writes it", where))
    if body.get("sha256") != sha256:
        row.problems.append(("was edited: its checksum is not that of its content", where))
    return _parse(body, model, row, where)


def _read_trials(path: Path, row: SubmittedRow, results: Path) -> list[Trial]:
    where, found, faulty = _where(path, results), list[Trial](), 0
    try:
        content = bounds.content(path)
    except (OSError, InvalidInputError) as error:
        row.problems.append((_short(error), where))
        return []
    if row.cell and hashlib.sha256(content).hexdigest() != row.cell.trials_sha256:
        row.problems.append(("was edited: its checksum is not the one in cell.json", where))
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        trial = _read_trial(line, number, row, where)
        found += [trial] if trial else []
        faulty += trial is None
        if faulty == MAX_FAULTY_LINES:
            row.problems.append((f"{faulty} faulty lines; what follows was not read", where))
            break
    return found


def _read_trial(line: bytes, number: int, row: SubmittedRow, where: str) -> Trial | None:
    try:
        body = bounds.parse_json(line)
        if f"{compact(body)}\n".encode() != line:
            row.problems.append((f"line {number} is not laid out as `submit` does", where))
    except (ValueError, RecursionError) as error:
        row.problems.append((f"line {number} does not read as JSON: {_short(error)}", where))
        return None
    return _parse(body, Trial, row, where, f"line {number}: ")


def _read_toml(path: Path, model: type[M], row: SubmittedRow, results: Path) -> M | None:
    where = _where(path, results)
    try:
        body = bounds.parse_toml(bounds.content(path))
    except InvalidInputError as error:
        row.problems.append((str(error), where))
        return None
    except (OSError, ValueError, RecursionError) as error:
        row.problems.append((f"does not read as TOML: {_short(error)}", where))
        return None
    return _parse(body, model, row, where)


def _parse(body: Any, model: type[M], row: SubmittedRow, where: str, prefix: str = "") -> M | None:
    """Return ``body`` as ``model``, or None with its first fault in one line."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_context=False)
        name = ".".join(map(str, first["loc"]))[:80] or "content"
        more = f", and {len(others)} more" if others else ""
        what = f"{prefix}{name}: {first['msg']}, met {_met(first['input'])}{more}"
        row.problems.append((what, where))
        return None


def _met(value: Any) -> str:
    """Return a short form of what was met; what is nested is named by its kind."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return f"{value!r:.80}"
    return "a table" if isinstance(value, dict) else f"a {type(value).__name__}"


def _where(path: Path, results: Path) -> str:
    return path.relative_to(results).as_posix()


def _short(error: BaseException) -> str:
    if isinstance(error, InvalidInputError):
        return str(error)
    return f"{type(error).__name__}: {error}"[:120]
