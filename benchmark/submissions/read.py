"""results/ as it lies on disk: every row with what its files hold and what is wrong with them.

Reading runs nothing: JSON, TOML and arrays with strict types, within the bounds of
:mod:`benchmark.submissions.bounds`. A link is never followed.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from benchmark.submissions import bounds
from benchmark.submissions.identity import Identity
from benchmark.submissions.parsing import Reader
from benchmark.submissions.schema import Cell, Challenge, Claim, Run, Trial
from benchmark.submissions.values import Values
from benchmark.submissions.watched import MAX_BYTES, Watched
from protocols.protocol import FROZEN_ROWS

MAX_FILES = 3_500  # in a row's folder: three for each of 1,000 seeds, and challenges
CHALLENGE = re.compile(r"challenge-\d{4}-\d{2}-\d{2}")
SEARCH = re.compile(r"search-([2-9]|[1-9][0-9])")
_WATCHED = re.compile(r"oracle-(0|[1-9][0-9]{0,5})\.json")
_RUN = re.compile(r"(seed|values)-(0|[1-9][0-9]{0,5})\.(json|npz)")


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
        place: ``<protocol>/<dataset>/<folder>``, and ``/search-K`` for a further search.
        search: which search of its cell it is, as people count: 1 for the row itself.
        further: further searches of the cell, by number. They are evidence of how far a search
            moves the row, are never ranked, and have no claim, reruns or evidence of their own.
        watched: by seed, the test classes along the training of one of ``runs``: evidence of the
            oracle gap.
        problems: (message, path below the results folder); those of further searches are theirs.
    """

    place: str = ""
    search: int = 1
    cell: Cell | None = None
    claim: Claim | None = None
    trials: list[Trial] = field(default_factory=list)
    reruns: list[Rerun] = field(default_factory=list)
    further: list[SubmittedRow] = field(default_factory=list)
    watched: dict[int, Watched] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)

    @property
    def searches(self) -> list[SubmittedRow]:
        """Return the row and its further searches, in order."""
        return [self, *self.further]

    @property
    def untrained(self) -> bool:
        """Return whether no image was trained on: seeds and rows may have one set of vectors."""
        trained = [run.counts.get("images_trained") for run in self.runs.values()]
        reference = self.cell is not None and self.cell.is_reference
        return reference or (bool(trained) and not any(count != 0 for count in trained))

    @property
    def stands_aside(self) -> bool:
        """Return whether the row only shows what its trunk can do."""
        frozen = self.cell is not None and self.cell.method in FROZEN_ROWS
        return frozen or self.untrained

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
        return 1 if self.fixed else self.cell.seeds


def read_row(results: Path, folder: Path) -> SubmittedRow:
    """Return what ``folder`` holds, with every problem of form in it."""
    row = SubmittedRow(place=folder.relative_to(results).as_posix())
    reader = Reader(results, row.problems)
    for path in _files(folder, reader):
        name = path.name
        if _read_part(path, row, reader) or _read_evidence(path, row, reader):
            continue
        if name == "claim.toml":
            row.claim = reader.toml(path, Claim)
        elif path.suffix == ".toml" and CHALLENGE.fullmatch(path.stem):
            row.reruns.append(_read_rerun(path, reader))
        elif path.suffix == ".sig" and path.with_suffix(".toml").is_file():
            continue  # what it is worth is found out apart
        elif not CHALLENGE.fullmatch(name):
            reader.note("does not belong into a row's folder", path)
        elif not path.with_name(f"{name}.toml").is_file():
            reader.note(f"runs of a challenge without {name}.toml", path)
    row.further.sort(key=lambda search: search.search)
    for seed in sorted(row.watched.keys() - row.runs.keys()):
        del row.watched[seed]
        reader.note(f"belongs to no seed-{seed}.json", folder / f"oracle-{seed}.json")
    return row


def row_folders(results: Path) -> list[Path]:
    """Return the folders three levels below ``results``, in order, none by way of a link."""
    levels = [results]
    for _ in range(3):
        levels = [p for folder in levels for p in folder.iterdir() if p.is_dir()]
        levels = [p for p in levels if not p.is_symlink()]
    return sorted(levels)


def _files(folder: Path, reader: Reader) -> Iterator[Path]:
    """Yield the files of a folder, and the folders that a row may have; others are a problem."""
    found = list(islice(folder.iterdir(), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        reader.note(f"more than {MAX_FILES} files", folder)
        return
    for path in sorted(found):
        mode = path.lstat().st_mode
        named = CHALLENGE.fullmatch(path.name) or SEARCH.fullmatch(path.name)
        if stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and named):
            yield path
        elif not stat.S_ISLNK(mode):  # a link is named with those elsewhere
            reader.note(f"{bounds.kind_of(mode)}; expected a file", path)


def _read_part(path: Path, row: SubmittedRow, reader: Reader) -> bool:
    """Read a file that every search of a cell has; return whether the name is of one."""
    if path.name == Cell.file:
        row.cell = _read_cell(path, reader)
    elif path.name == "trials.jsonl":
        row.trials = reader.trials(path, row.cell.trials_sha256 if row.cell else None)
    else:
        return _read_run(path, row, reader)
    return True


def _read_evidence(path: Path, row: SubmittedRow, reader: Reader) -> bool:
    """Read a further search or a watched run; return whether the name is of one."""
    if found := _WATCHED.fullmatch(path.name):
        if watched := reader.json(path, Watched, MAX_BYTES):
            row.watched[int(found[1])] = watched
    elif found := SEARCH.fullmatch(path.name):
        row.further.append(read_search(reader.results, path))
    else:
        return False
    return True


def read_search(results: Path, folder: Path) -> SubmittedRow:
    """Return the further search in ``folder``; it has a row's files but a claim and its company."""
    number = int(folder.name.removeprefix("search-"))
    row = SubmittedRow(place=folder.relative_to(results).as_posix(), search=number)
    reader = Reader(results, row.problems)
    if not folder.is_dir():
        reader.note("a file; expected a folder", folder)
        return row
    for path in _files(folder, reader):
        if path.is_dir() or not _read_part(path, row, reader):
            reader.note("does not belong into the folder of a further search", path)
    return row


def _read_rerun(path: Path, reader: Reader) -> Rerun:
    rerun = Rerun(name=path.stem, challenge=reader.toml(path, Challenge))
    folder = path.with_suffix("")
    for file in _files(folder, reader) if folder.is_dir() and not folder.is_symlink() else ():
        if not _read_run(file, rerun, reader):
            reader.note("does not belong to a challenge", file)
    return rerun


def _read_run(path: Path, runs: Runs, reader: Reader) -> bool:
    """Read a run's file, or what it found for every query; return whether the name is of one."""
    found = _RUN.fullmatch(path.name)
    kind = (found[1], found[3]) if found else None
    if found and kind == ("seed", "json"):
        if run := reader.json(path, Run):
            runs.runs[int(found[2])] = run
    elif found and kind == ("values", "npz"):
        if values := reader.values(path):
            runs.values[int(found[2])] = values
    else:
        return False
    return True


def _read_cell(path: Path, reader: Reader) -> Cell | None:
    cell = reader.json(path, Cell)
    whole = cell and reader.fitting(cell.identity, Identity, path, "identity.")
    return cell if whole else None
