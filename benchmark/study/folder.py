"""An output folder: which protocol it holds, which cells, and where each record lies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from benchmark.study import records
from benchmark.study.datasets import identity
from benchmark.study.records import ChoiceRecord, JobRecord, R, RunRecord, TrialRecord
from protocols.errors import StoreError
from protocols.protocol import Protocol

FILE = "study.json"
# characters that a folder does not get, such as the colon of timm:resnet18
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class CellKey:
    """A cell's place in the grid and its id.

    Attributes:
        id: digest of all that the cell is made of.
        dataset: the title that tables show, see :mod:`benchmark.study.datasets`.
        trunk, recipe, method: its names on the axes; a trunk with weights says which.
        row: the name of its row in tables, ``pretrained`` for the untouched trunk with weights.
        trains: False for the reference row, an untouched trunk.
        searched: False for a method without hyperparameters.
        repeat: 0 for the first search; each further one (``--search-repeats``) is a cell of its
            own, with an id, seeds, a choice and runs.
        trials: how many its search makes: the protocol's number, or fewer where its space has
            fewer settings; None in folders of earlier versions.
    """

    id: str
    dataset: str
    trunk: str
    recipe: str
    method: str
    row: str
    trains: bool = True
    searched: bool = True
    repeat: int = 0
    trials: int | None = None

    @cached_property
    def path(self) -> str:
        """Return the cell's folder below ``records/``; an edited method gets a new one."""
        parts = (*self.axes[:3], f"{self.method}-{self.id[:8]}")
        return "/".join(_UNSAFE.sub("-", part) for part in parts)

    @property
    def axes(self) -> tuple[str, str, str, str]:
        """Return (dataset's identity, trunk, recipe, method)."""
        return (identity(self.dataset), self.trunk, self.recipe, self.method)


@dataclass(frozen=True)
class Study:
    """What an output folder holds.

    Attributes:
        out: the folder.
        protocol: the rules of all its cells.
        cells: the grid, in order; each stands for its first search.
        repeats: further searches of some of the cells.
    """

    out: Path
    protocol: Protocol
    cells: tuple[CellKey, ...] = ()
    repeats: tuple[CellKey, ...] = ()

    @property
    def all_cells(self) -> tuple[CellKey, ...]:
        """Return the cells and their further searches: all that has records."""
        return (*self.cells, *self.repeats)

    def trials_asked(self, cell: CellKey) -> int:
        """Return how many trials the cell's search makes."""
        if not cell.searched:
            return 0
        return self.protocol.search.trials if cell.trials is None else cell.trials

    def searches(self, cell: CellKey) -> list[CellKey]:
        """Return the cell and its further searches, in order."""
        return [cell, *(other for other in self.repeats if other.axes == cell.axes)]

    def extend(self, cells: Sequence[CellKey], seeds: int) -> Study:
        """Return the study with more cells and at least ``seeds`` seeds.

        A cell at the same place in the grid, of an earlier version of its method's code, is
        replaced: its records stay on disk and leave the tables, and so do its further searches.
        """
        given = [cell for cell in cells if not cell.repeat]
        merged = {cell.axes: cell for cell in (*self.cells, *given)}
        kept = {cell.axes for cell in self.cells if merged[cell.axes].id == cell.id}
        again = [cell for cell in self.repeats if cell.axes in kept]
        again += [cell for cell in cells if cell.repeat]
        further = {(*cell.axes, cell.repeat): cell for cell in again}
        return replace(
            self,
            protocol=replace(self.protocol, seeds=max(self.protocol.seeds, seeds)),
            cells=tuple(merged[k] for k in sorted(merged)),
            repeats=tuple(further[k] for k in sorted(further)),
        )

    def save(self) -> None:
        """Write ``study.json``."""
        protocol = self.protocol
        body = _File(protocol, protocol.hash(), protocol.rules_hash(), self.all_cells)
        text = json.dumps(asdict(body), indent=1, sort_keys=True) + "\n"
        path = self.out / FILE
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            records.write_bytes(path, text.encode())

    def folder(self, cell: CellKey) -> Path:
        """Return where the cell's records lie."""
        return self.out / "records" / cell.path

    def job_path(self, cell: CellKey, stage: str, number: int, fold: int) -> Path:
        """Return the file of one job: ``trial-003.fold-0.json`` or ``seed-0.fold-0.json``."""
        return self.folder(cell) / f"{_stem(stage, number)}.fold-{fold}.json"

    def jobs(self, cell: CellKey, stage: str, number: int) -> list[JobRecord | None]:
        """Return a trial's or run's fold jobs, None where one is not finished."""
        paths = [self.job_path(cell, stage, number, k) for k in range(self.protocol.folds)]
        return [records.read(path, JobRecord) for path in paths]

    def trials(self, cell: CellKey) -> list[TrialRecord]:
        """Return the finished trials, in order, up to the first that is missing."""
        found: list[TrialRecord] = []
        folder = self.folder(cell)
        while trial := _read(folder, _stem("search", len(found)), TrialRecord):
            found.append(trial)
        return found

    def choice(self, cell: CellKey) -> ChoiceRecord | None:
        """Return the chosen setting, None before the search has ended."""
        return _read(self.folder(cell), "choice", ChoiceRecord)

    def run(self, cell: CellKey, seed: int) -> RunRecord | None:
        """Return the run of ``seed``, None if it is not finished."""
        return _read(self.folder(cell), _stem("final", seed), RunRecord)

    def runs(self, cell: CellKey) -> list[RunRecord]:
        """Return the finished runs among the protocol's seeds, by seed."""
        folder, seeds = self.folder(cell), range(self.protocol.seeds)
        found = (_read(folder, _stem("final", seed), RunRecord) for seed in seeds)
        return [run for run in found if run]

    def record_path(self, cell: CellKey, record: records.Record) -> Path:
        """Return where ``record`` of ``cell`` belongs."""
        if isinstance(record, JobRecord):
            return self.job_path(cell, record.stage, record.number, record.fold)
        if isinstance(record, TrialRecord):
            return self.folder(cell) / f"{_stem('search', record.number)}.json"
        if isinstance(record, RunRecord):
            return self.folder(cell) / f"{_stem('final', record.seed)}.json"
        return self.folder(cell) / f"{record.kind}.json"

    def set_aside_damaged(self, cell: CellKey) -> int:
        """Rename the cell's damaged records, and those made from them, so that they are redone.

        A trial or run whose fold is damaged goes aside too, and so does the choice where one of
        its trials does. Those that are not damaged themselves are made again with equal content.
        Returns how many were damaged.
        """
        folder = self.folder(cell)
        lost = set(records.damaged(folder))
        stems = {path.name.partition(".fold-")[0] for path in lost if ".fold-" in path.name}
        above = {folder / f"{stem}.json" for stem in stems}
        if any(path.name.startswith("trial-") for path in lost | above):
            above.add(folder / "choice.json")
        # What was made from a damaged record goes first: if this is interrupted, the damaged ones
        # are still there to be noticed.
        for paths, mark in ((above - lost, "aside"), (lost, "damaged")):
            for path in sorted(paths):
                with suppress(FileNotFoundError):
                    path.replace(path.with_name(f"{path.name}.{mark}"))
        return len(lost)


def reference_methods(protocol: Protocol) -> frozenset[str]:
    """Return the methods that only show the untouched trunk and compete with nothing."""
    return frozenset({protocol.reference, protocol.pretrained_reference}) - {protocol.baseline}


def load_study(out: Path) -> Study | None:
    """Return the study in ``out``, None if the folder holds none.

    Raises:
        StoreError: ``study.json`` is damaged; the records beside it are untouched.
    """
    from pydantic import ValidationError  # here: workers know cells, and may lack pydantic

    path = out / FILE
    try:
        held = _read_file(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}. Choose another --out") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise StoreError(
            f"{path} is damaged ({where}: {first['msg']}). Delete that one file and run the "
            "command again: the records beside it are kept and used"
        ) from error
    first_searches = tuple(cell for cell in held.cells if not cell.repeat)
    repeats = tuple(cell for cell in held.cells if cell.repeat)
    return Study(out, held.protocol, first_searches, repeats)


@dataclass(frozen=True)
class _File:
    """What ``study.json`` holds. The hashes are for people and other programs."""

    protocol: Protocol
    protocol_hash: str
    rules_hash: str
    cells: tuple[CellKey, ...]


def _read_file(content: bytes) -> _File:
    """Return the content of ``study.json``; a value of another type is not turned into its own."""
    from pydantic import TypeAdapter  # here: see above

    return TypeAdapter(_File).validate_json(content, strict=True, extra="forbid")


def _read(folder: Path, stem: str, kind: type[R]) -> R | None:
    return records.read(folder / f"{stem}.json", kind)


def _stem(stage: str, number: int) -> str:
    return f"trial-{number:03d}" if stage == "search" else f"seed-{number}"
