"""An output folder: which protocol it holds, which cells, and where each record lies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.study import places, records
from benchmark.study.datasets import identity
from benchmark.study.records import (
    CellRecord,
    ChoiceRecord,
    JobRecord,
    R,
    RunRecord,
    TrialRecord,
)
from protocols.errors import StoreError
from protocols.protocol import FROZEN_ROWS, Protocol, digest

FILE = "study.json"
SEEDS = "seeds"  # as overrides of a protocol call their number
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
        trains: False for a row that is fitted or taken as it is, on an untouched trunk.
        searched: False for a method without hyperparameters.
        repeat: 0 for the first search; each further one (``--search-repeats``) is a cell of its
            own, with an id, seeds, a choice and runs.
        trials: how many its search makes: the protocol's number, or fewer where its space has
            fewer settings; None in folders of earlier versions.
        trunk_drawn: some of the trunk is drawn at its start beside its weights, see
            :meth:`protocols.discovery.Registry.starts_at_random`.
        side: what its method was told of training classes beside images and labels, in words;
            empty for nothing.
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
    trunk_drawn: bool = False
    side: str = ""

    @cached_property
    def path(self) -> str:
        """Return the cell's folder below ``records/``; an edited method gets a new one."""
        parts = (*self.axes[:3], f"{self.method}-{self.id[:8]}")
        return "/".join(_UNSAFE.sub("-", part) for part in parts)

    @property
    def place(self) -> str:
        """Return which cell this is, for a sentence: its row and where in the grid that stands."""
        return f"{self.row} on {self.dataset} ({self.trunk}, {self.recipe})"

    @property
    def deterministic(self) -> bool:
        """Return whether nothing in its runs is drawn: no training, on a trunk with weights.

        Such a cell has one run, and no interval over seeds.
        """
        return not self.trains and "+" in self.trunk and not self.trunk_drawn

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
        doubts: why records that were read are not used, by path: they are damaged or belong
            elsewhere, and count as missing. See :func:`benchmark.study.aside.set_aside`.
    """

    out: Path
    protocol: Protocol
    cells: tuple[CellKey, ...] = ()
    repeats: tuple[CellKey, ...] = ()
    doubts: dict[Path, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def all_cells(self) -> tuple[CellKey, ...]:
        """Return the cells and their further searches: all that has records."""
        return (*self.cells, *self.repeats)

    def trials_asked(self, cell: CellKey) -> int:
        """Return how many trials the cell's search makes."""
        if not cell.searched:
            return 0
        return self.protocol.search.trials if cell.trials is None else cell.trials

    def runs_asked(self, cell: CellKey) -> int:
        """Return how many final runs the cell has: one where all of them would be the same."""
        return 1 if cell.deterministic else self.protocol.seeds

    def searches(self, cell: CellKey) -> list[CellKey]:
        """Return the cell and its further searches, in order."""
        return [cell, *(other for other in self.repeats if other.axes == cell.axes)]

    def extend(self, cells: Sequence[CellKey], asked: Protocol) -> Study:
        """Return the study with more cells and at least as many seeds as ``asked`` has.

        Whether that number is a change of the protocol, too, is what ``asked`` says, so a study
        that was begun with fewer seeds is an unchanged one once it has them all. A cell at the
        same place in the grid, of an earlier version of its method's code, is replaced: its
        records stay on disk and leave the tables, and so do its further searches.
        """
        given = [cell for cell in cells if not cell.repeat]
        merged = {cell.axes: cell for cell in (*self.cells, *given)}
        kept = {cell.axes for cell in self.cells if merged[cell.axes].id == cell.id}
        again = [cell for cell in self.repeats if cell.axes in kept]
        again += [cell for cell in cells if cell.repeat]
        further = {(*cell.axes, cell.repeat): cell for cell in again}
        return replace(
            self,
            protocol=_with_seeds_of(self.protocol, asked),
            cells=tuple(merged[k] for k in sorted(merged)),
            repeats=tuple(further[k] for k in sorted(further)),
        )

    def save(self) -> None:
        """Write ``study.json``."""
        protocol = self.protocol
        held = _File(protocol, protocol.hash(), protocol.rules_hash(), self.all_cells)
        body = {k: v for k, v in asdict(held).items() if k != "sha256"}
        text = json.dumps({**body, "sha256": _checksum(body)}, indent=1, sort_keys=True) + "\n"
        path = self.out / FILE
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            records.write_bytes(path, text.encode())

    def folder(self, cell: CellKey) -> Path:
        """Return where the cell's records lie."""
        return self.out / "records" / cell.path

    def job_path(self, cell: CellKey, stage: str, number: int, fold: int) -> Path:
        """Return the file of one job."""
        return self.folder(cell) / places.job_name(stage, number, fold)

    def jobs(self, cell: CellKey, stage: str, number: int) -> list[JobRecord | None]:
        """Return a trial's or run's fold jobs, None where one is not finished."""
        names = [places.job_name(stage, number, k) for k in range(self.protocol.folds)]
        return [self._read(cell, name, JobRecord) for name in names]

    def trials(self, cell: CellKey) -> list[TrialRecord]:
        """Return the finished trials, in order, up to the first that is missing."""
        found: list[TrialRecord] = []
        while trial := self._read(cell, _unit("search", len(found)), TrialRecord):
            found.append(trial)
        return found

    def choice(self, cell: CellKey) -> ChoiceRecord | None:
        """Return the chosen setting, None before the search has ended."""
        return self._read(cell, "choice.json", ChoiceRecord)

    def run(self, cell: CellKey, seed: int) -> RunRecord | None:
        """Return the run of ``seed``, None if it is not finished."""
        return self._read(cell, _unit("final", seed), RunRecord)

    def runs(self, cell: CellKey) -> list[RunRecord]:
        """Return the finished runs among those asked for, by seed."""
        found = (self.run(cell, seed) for seed in range(self.runs_asked(cell)))
        return [run for run in found if run]

    def cell_record(self, cell: CellKey) -> CellRecord | None:
        """Return what the cell is made of, None before that was written down."""
        return self._read(cell, "cell.json", CellRecord)

    def record_path(self, cell: CellKey, record: records.Record) -> Path:
        """Return where ``record`` of ``cell`` belongs."""
        return self.folder(cell) / places.name_of(record)

    def vectors_path(self, cell: CellKey, seed: int, fold: int) -> Path:
        """Return where a fold model's test embeddings wait for the run to be joined."""
        return self.out / "vectors" / cell.path / f"seed-{seed}.fold-{fold}.npz"

    def _read(self, cell: CellKey, name: str, kind: type[R]) -> R | None:
        """Return a record that proves its place; what does not is doubted and counts as missing."""
        path = Path(self.out, "records", cell.path, name)  # one step: it is asked for thousands
        record, why = places.examine(path, cell.id)
        if why:
            self.doubts[path] = why
        else:
            self.doubts.pop(path, None)
        return record if isinstance(record, kind) else None


def _with_seeds_of(own: Protocol, asked: Protocol) -> Protocol:
    """Return ``own`` with the seeds of ``asked``, and how they were said, if they are no fewer."""
    if asked.seeds < own.seeds:
        return own
    said = {k: v for k, v in asked.overrides.items() if k == SEEDS}
    said |= {k: v for k, v in own.overrides.items() if k != SEEDS}
    return replace(own, seeds=asked.seeds, overrides=said)


def stands_aside(cell: CellKey, protocol: Protocol) -> bool:
    """Return whether a cell only shows what its trunk can do, and competes with nothing."""
    named = (protocol.reference, protocol.pretrained_reference, *FROZEN_ROWS)
    return cell.method != protocol.baseline and (not cell.trains or cell.method in named)


def competes(cell: CellKey, protocol: Protocol) -> bool:
    """Return whether a cell is a contestant: it trains, on what all others are told too."""
    return not stands_aside(cell, protocol) and (not cell.side or cell.method == protocol.baseline)


def needed(protocol: Protocol) -> dict[str, str]:
    """Return the methods whose rows no study can do without, and why."""
    references = (protocol.reference, protocol.pretrained_reference)
    found = dict.fromkeys(references, "every study has it")
    return {**found, protocol.baseline: "the others are compared with it"}


def load_study(out: Path) -> Study | None:
    """Return the study in ``out``, None if the folder holds none.

    Raises:
        StoreError: ``study.json`` is damaged; the records beside it are untouched.
    """
    from pydantic import ValidationError  # here: workers know cells, and may lack pydantic

    path = out / FILE
    try:
        content = records.content(path)
        held = _read_file(content)
        why = _altered(json.loads(content), held)
    except FileNotFoundError:
        return None
    except records.DamagedRecordError as error:
        raise StoreError(f"cannot read {path}: it is a folder. Choose another --out") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise _damaged(path, f"{where}: {first['msg']}") from error
    if why:
        raise _damaged(path, why)
    first_searches = tuple(cell for cell in held.cells if not cell.repeat)
    repeats = tuple(cell for cell in held.cells if cell.repeat)
    study = Study(out, held.protocol, first_searches, repeats)
    for cell in study.all_cells:
        if why := _renamed(study, cell):
            raise _damaged(path, why)
    return study


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{path} is damaged ({why}). Delete that one file and run the command again: the records "
        "beside it are kept and used"
    )


@dataclass(frozen=True)
class _File:
    """What ``study.json`` holds: hashes of the protocol, and a checksum over all of it.

    Files of earlier versions have no checksum.
    """

    protocol: Protocol
    protocol_hash: str
    rules_hash: str
    cells: tuple[CellKey, ...]
    sha256: str | None = None


def _read_file(content: bytes) -> _File:
    """Return the content of ``study.json``; a value of another type is not turned into its own."""
    from pydantic import TypeAdapter  # here: see above

    return TypeAdapter(_File).validate_json(content, strict=True, extra="forbid")


def _altered(body: dict[str, Any], held: _File) -> str:
    """Return which hash of ``study.json`` is not that of its content, empty if none."""
    if body.pop("sha256", None) not in (None, _checksum(body)):
        return "sha256: not that of its content"
    # As it was written: a field that came later moves no hash of an earlier file.
    written, protocol = body["protocol"], held.protocol
    rules = {name: written[name] for name in protocol.rules() if name in written}
    grid = {name: written[name] for name in ("datasets", "trunk", "recipe", "seeds")}
    opened = {"oracle_gap": True} if protocol.oracle_gap else {}
    expected = {"rules_hash": digest(rules), "protocol_hash": digest({**rules, **grid, **opened})}
    wrong = [name for name, value in expected.items() if body[name] != value]
    return f"{wrong[0]}: not that of its protocol" if wrong else ""


def _renamed(study: Study, cell: CellKey) -> str:
    """Return which name of a cell is not the one in its record, empty if all are."""
    record = study.cell_record(cell)
    if record is None:
        return ""
    axes = (identity(record.dataset), record.trunk, record.recipe, record.method)
    names = ("dataset", "trunk", "recipe", "method", "row")
    pairs = zip(names, (*cell.axes, cell.row), (*axes, record.row), strict=True)
    for name, own, other in pairs:
        if own != other:
            return f"{cell.path}: {name} {own!r}, {other!r} in cell.json"
    return ""


def _checksum(body: dict[str, Any]) -> str:
    return digest(body, 64)


def _unit(stage: str, number: int) -> str:
    return f"{places.unit_name(stage, number)}.json"
