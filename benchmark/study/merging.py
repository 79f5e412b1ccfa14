"""Studies that were made apart, brought together: where they disagree, and what goes where.

Two machines that each ran a part of a grid have equal cells with unequal files, or other cells.
A record has one truth, so records of one place must agree in all but what a clock or machine
says. What does not agree is named, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.study import checksums, failures, looks, machines, references, rules, weights
from benchmark.study.aside import Held, believed
from benchmark.study.datasets import by_identity, identity
from benchmark.study.folder import CellKey, Study, needed
from benchmark.study.records import (
    CellRecord,
    ChoiceRecord,
    JobRecord,
    Record,
    RunRecord,
    TrialRecord,
    write,
    write_bytes,
)
from protocols.errors import StoreError

# Written in this order, what was made from others after them: a merge that is interrupted leaves
# no record without those that it was made from.
_ORDER = (CellRecord, JobRecord, TrialRecord, ChoiceRecord, RunRecord)
# What to do about a conflict. Rows that every study has cannot be removed from one.
REMOVE = "Remove the row from the study where it is wrong (remove METHOD --out DIR) and merge again"
ONE_MACHINE = (
    "A row that every study has is taken from one of them: move {folder} out of the other study's "
    "folder and merge again"
)
SAME_CODE = "Run the study of the older code again with that of the other, and merge again"
MEASURE = "Delete the file of the reference row that is wrong and merge again"
Place = tuple[str, str, str, str, int]


@dataclass(frozen=True)
class Part:
    """What one study gives of one cell.

    Attributes:
        study, cell: whose.
        held: the records that are believed, by file name.
        doubted: why others are not, by file name.
    """

    study: Study
    cell: CellKey
    held: Held
    doubted: dict[str, str]


def parts_of(study: Study) -> list[Part]:
    """Return what ``study`` gives of each cell; every record is read and compared once."""
    return [Part(study, cell, *believed(study, cell)) for cell in study.all_cells]


def together(studies: Sequence[Study], out: Path) -> Study:
    """Return one study in ``out`` with the cells of all; of equal cells the first one's names.

    Own images that were prepared under several names get the first one's title in every cell: a
    table holds the rows of one title.
    """
    titles: dict[str, str] = {}
    for cell in (cell for study in studies for cell in study.all_cells):
        titles.setdefault(identity(cell.dataset), cell.dataset)

    def named(cells: Sequence[CellKey]) -> tuple[CellKey, ...]:
        return tuple(replace(cell, dataset=titles[identity(cell.dataset)]) for cell in cells)

    first = studies[0]
    one = replace(first, out=out, cells=named(first.cells), repeats=named(first.repeats))
    for other in studies[1:]:
        known = {_place(cell) for cell in one.all_cells}
        fresh = [cell for cell in named(other.all_cells) if _place(cell) not in known]
        one = one.extend(fresh, other.protocol)
    return one


def check_alike(studies: Sequence[Study]) -> None:
    """Raise StoreError unless all studies were made under the same rules on one kind of device."""
    rules.check_alike(studies)
    kinds = {study.out: kind for study in studies if (kind := machines.device_kind(study))}
    if len(set(kinds.values())) > 1:
        met = ", ".join(f"{out} on {kind}" for out, kind in kinds.items())
        raise StoreError(
            f"made on more than one kind of device ({met}): their numbers differ and cannot stand "
            "in one table. Merge those of one kind"
        )


@dataclass(frozen=True)
class Conflict:
    """A place where two studies disagree, in words, and what can be done about such a place."""

    words: str
    remedy: str


def conflicts(parts: Sequence[Part]) -> list[Conflict]:
    """Return every place where the studies disagree."""
    found: list[Conflict] = []
    first: dict[Place, Part] = {}
    holders: dict[tuple[Place, str], Part] = {}
    for part in parts:
        place, cell = _place(part.cell), part.cell
        other = first.setdefault(place, part)
        if other.cell.id != cell.id:
            both = f"{other.cell.id[:8]} in {other.study.out}, {cell.id[:8]} in {part.study.out}"
            words = f"{cell.place}: its code or its data are not the same ({both})"
            found.append(Conflict(words, SAME_CODE if _needed(part) else REMOVE))
            continue
        for name, record in part.held.items():
            holder = holders.setdefault((place, name), part)
            if not agree(record, holder.held[name]):
                found.append(_conflict(holder, part, name))
    return found


def agree(one: Record, other: Record) -> bool:
    """Return whether two records of one place say the same, but for what a machine says."""
    if isinstance(one, CellRecord):  # its id is a digest of all that moves a number
        return one.id == other.id
    if isinstance(one, ChoiceRecord) or isinstance(other, ChoiceRecord | CellRecord):
        return one == other
    return _said(one) == _said(other)


def carry(target: Study, parts: Sequence[Part]) -> dict[Path, int]:
    """Write into ``target`` what it lacks; return how many records came from each folder.

    ``parts`` have no conflicts. What lies in the target and is believed is left as it is.

    Raises:
        StoreError: a file cannot be read or written.
    """
    held: dict[Place, set[str]] = {}
    came: dict[Path, int] = {}
    own = target.out.resolve()
    for part in sorted(parts, key=lambda part: part.study.out.resolve() != own):
        known = held.setdefault(_place(part.cell), set())
        fresh = {name: record for name, record in part.held.items() if name not in known}
        known.update(fresh)
        if part.study.out.resolve() == own:
            continue
        came[part.study.out] = came.get(part.study.out, 0) + len(fresh)
        for kind in _ORDER:
            for record in (r for r in fresh.values() if isinstance(r, kind)):
                _copy_beside(part, target, record)
                write(target.record_path(part.cell, record), record)
    return came


def keep_most(target: Study, studies: Sequence[Study]) -> None:
    """Keep as many weights as the one that keeps most, and no more than that."""
    order = weights.CHOICES
    keep = max((weights.kept_in(study.out) for study in studies), key=order.index)
    weights.remember(target.out, keep)
    for cell in target.all_cells:
        weights.prune(target, cell, keep)


def add_looks(target: Study, studies: Sequence[Study]) -> None:
    """Write down every look at verdicts that was taken anywhere, and the plan if all had one."""
    looks.write_looks(target, looks.merged([looks.read_looks(study) for study in studies]))


def machines_met(parts: Sequence[Part]) -> str:
    """Return on which unlike machines the studies were made, in words; "" where all are alike.

    Two kinds of processor give sums whose last bits differ, so a row made on both disagrees.
    """
    return machines.unlike(
        (str(part.study.out), record.measured.get("environment", {}))
        for part in parts
        for record in part.held.values()
        if isinstance(record, JobRecord)
    )


def reference_files(studies: Sequence[Study]) -> tuple[dict[str, Path], list[Conflict]]:
    """Return the reference rows of all studies by file name, and where two are not the same."""
    found: dict[str, Path] = {}
    unlike = []
    for study in studies:
        for path in sorted((study.out / "references").glob("*.json")):
            other = found.setdefault(path.name, path)
            if other is not path and not references.alike(other, path):
                words = f"the reference row {path.stem}: {other} and {path} differ"
                unlike.append(Conflict(words, MEASURE))
    return found, unlike


def _said(record: JobRecord | TrialRecord | RunRecord) -> Record:
    """Return a record without what a machine says, own images by what they are in its words."""
    record = replace(record, measured={})
    if isinstance(record, TrialRecord):
        return record
    return replace(record, openings=[by_identity(line) for line in record.openings])


def _place(cell: CellKey) -> Place:
    return (*cell.axes, cell.repeat)


def _conflict(one: Part, other: Part, name: str) -> Conflict:
    both = ((part.study.out, part.held[name]) for part in (one, other))
    lost = [out for out, record in both if _by_the_machine(record)]
    remedy = f"; {lost[0]} lost it to the machine: run --retry-failed there first" if lost else ""
    otherwise = ONE_MACHINE.format(folder=f"records/{one.cell.path}")
    advice = "" if lost else otherwise if _needed(one) else REMOVE
    where = f"{one.cell.place}: {name}"
    met = f"{where} is another one in {one.study.out} and in {other.study.out}{remedy}"
    return Conflict(met, advice)


def _needed(part: Part) -> bool:
    return not part.cell.repeat and part.cell.method in needed(part.study.protocol)


def _by_the_machine(record: Record) -> bool:
    return isinstance(record, JobRecord | TrialRecord | RunRecord) and failures.lost(record)


def _copy_beside(part: Part, target: Study, record: Record) -> None:
    """Copy the files that belong to a record, before the record itself."""
    for source, place in _beside(part, target, record):
        if source.is_file():
            write_bytes(place, source.read_bytes())


def _beside(part: Part, target: Study, record: Record) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a record, where they lie and where they belong."""
    if isinstance(record, RunRecord) and record.queries:
        path = record.queries["path"]  # checked when the record was believed
        yield part.study.out / path, target.out / path
    if isinstance(record, JobRecord) and record.stage == "final":
        place = (part.cell, record.number, record.fold)
        if f"seed-{record.number}.json" not in part.held:  # they wait to be joined
            yield part.study.vectors_path(*place), target.vectors_path(*place)
        kept = weights.path_of(part.study, *place)
        if kept.is_file() and checksums.of_file(kept) == record.weights_sha256:
            yield kept, weights.path_of(target, *place)
