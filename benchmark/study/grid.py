"""From names to cells, and what is left to do in each of them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.study import datasets, records
from benchmark.study.datasets import Data
from benchmark.study.failures import untried
from benchmark.study.folder import CellKey, Study
from benchmark.study.places import cell_id
from benchmark.study.records import CellRecord
from protocols.discovery import Registry
from protocols.knobs import recipe_under
from protocols.partition import OWN_ORDER
from protocols.protocol import FROZEN_ROWS, Protocol
from protocols.space import Space, size
from protocols.weights import identity

_RECORD = re.compile(r"(trial|seed)-\d+(\.fold-\d+)?\.json")


@dataclass(frozen=True)
class Axes:
    """The axes of a study, as asked for; datasets as :mod:`benchmark.study.datasets` finds them."""

    methods: tuple[str, ...]
    datasets: tuple[Data, ...]
    trunks: tuple[str, ...]
    recipes: tuple[str, ...]


@dataclass(frozen=True)
class CellPlan:
    """How far a cell has come.

    ``jobs_left`` counts trainings, the folds of unfinished trials and runs included; ``chosen``
    says whether the setting of the final runs is written down; ``failed`` that every trial of the
    search failed, so that there is none.
    """

    cell: CellKey
    trials: int
    trials_done: int
    runs: int
    runs_done: int
    jobs_left: int
    chosen: bool
    failed: bool = False

    @property
    def ended(self) -> bool:
        """Return whether nothing is left to do."""
        return self.state in ("done", "failed")

    @property
    def state(self) -> str:
        """Return ``done``, ``failed``, ``partial`` or ``todo``."""
        if self.failed:
            return "failed"
        if self.runs_done == self.runs and self.chosen:
            return "done"
        return "partial" if self.trials_done or self.runs_done else "todo"


def make_cells(
    axes: Axes,
    protocol: Protocol,
    registry: Registry,
    weights: Path | str | None = None,
) -> list[CellRecord]:
    """Return a record for every cell of the grid, the protocol's reference rows included.

    Code is digested from its source, so nothing here imports a method or torch.

    Raises:
        UnknownNameError: a name that does not exist.
        PluginError: a method whose source does not parse.
    """
    known = identity(weights)
    methods = list(dict.fromkeys((*axes.methods, *_forced(protocol, weights))))
    for kind, names in _axis_names(axes, methods).items():
        for name in names:
            registry.check(kind, name)
    codes = {method: registry.code_digest("method", method) for method in methods}
    trunk_codes = {trunk: registry.code_digest("trunk", trunk) for trunk in axes.trunks}
    loaded = {recipe: registry.load("recipe", recipe) for recipe in axes.recipes}
    recipes = {name: recipe_under(protocol, each).values() for name, each in loaded.items()}
    rules, found = protocol.rules(), []
    for data in axes.datasets:
        for trunk in axes.trunks:
            for recipe in axes.recipes:
                shared = {
                    "rules": rules,
                    "dataset": datasets.identity(data.title),
                    "dataset_digest": data.digest,
                    **({"class_order": OWN_ORDER} if datasets.is_own(data.title) else {}),
                    "trunk": trunk if weights is None else f"{trunk}+{_short(known)}",
                    "weights": known,
                    "trunk_code": trunk_codes[trunk],
                    **({"trunk_drawn": True} if registry.starts_at_random(trunk) else {}),
                    "recipe": recipes[recipe],
                }
                for method, code in codes.items():
                    made_of = {**shared, "method": method, "method_code": code}
                    found.append(_cell(data.title, made_of, protocol))
    return found


def _forced(protocol: Protocol, weights: Path | str | None) -> tuple[str, ...]:
    """Return the rows that every grid has: what the trunk can do before it is trained."""
    if weights is None:
        return (protocol.reference,)
    # where the paper's settings stand in place of a search, its own row does
    frozen = FROZEN_ROWS if protocol.params == "search" else ()
    return (protocol.pretrained_reference, *frozen)


def _short(known: str) -> str:
    """Return a weight set's name, or the first digits of a weights file's checksum."""
    return known.removeprefix("sha256:")[:8] if known.startswith("sha256:") else known


def key_of(
    cell: CellRecord, protocol: Protocol, registry: Registry, known: Study | None
) -> CellKey:
    """Return the cell's key; its method is imported only if ``known`` does not hold the cell."""
    for old in known.cells if known else ():
        if old.id == cell.id:
            return old
    method = registry.load("method", cell.method)
    space: Space = {}
    if protocol.params == "search":
        from protocols.narrowing import space_under  # here: it imports torch

        recipe = recipe_under(protocol, registry.load("recipe", cell.recipe))
        space = space_under(protocol, cell.method, method, cell.dataset, recipe)
    return CellKey(
        id=cell.id,
        dataset=cell.dataset,
        trunk=cell.trunk,
        recipe=cell.recipe,
        method=cell.method,
        row=cell.row,
        trains=method.trains,
        searched=bool(space),
        trials=min(protocol.search.trials, size(space)) if space else 0,
        trunk_drawn=cell.identity.get("trunk_drawn", False),
        side=" and ".join(sorted(method.wants.side)),
    )


def further_search(
    key: CellKey, cell: CellRecord, protocol: Protocol, repeat: int
) -> tuple[CellKey, CellRecord]:
    """Return search number ``repeat`` of a cell, counted from 0, as a cell of its own.

    Its suggestions and seeds derive from its id and number, so it shares nothing with the first
    search but the rules; the first one's id stays what it is.
    """
    identity = {**cell.identity, "search_repeat": repeat}
    number = cell_id(identity)
    row = f"{cell.row} (search {repeat + 1})"
    further = replace(key, id=number, row=row, repeat=repeat)
    return further, replace(cell, id=number, row=row, identity=identity)


def progress_of(
    study: Study, cells: Iterable[CellKey], without: Mapping[str, Set[str]] | None = None
) -> list[CellPlan]:
    """Return how far each cell has come, almost from the names of its record files alone.

    Args:
        study: the output folder.
        cells: whose progress.
        without: names of records that do not count, by cell id.
    """
    passed_over = without or {}
    return [_progress(study, cell, passed_over.get(cell.id, frozenset())) for cell in cells]


def stale_records(study: Study) -> int:
    """Return how many record folders belong to no cell: of earlier code, or of removed rows."""
    current = {study.folder(cell) for cell in study.all_cells}
    kept = {path.parent for path in (study.out / "records").glob("*/*/*/*/cell.json")}
    return len(kept - current)


def save_cells(study: Study, cells: Sequence[tuple[CellKey, CellRecord]]) -> None:
    """Write ``cell.json`` of new cells."""
    for key, record in cells:
        if study.cell_record(key) is None:
            records.write(study.record_path(key, record), record)


def _axis_names(axes: Axes, methods: Sequence[str]) -> dict[str, Sequence[str]]:
    return {
        "method": methods,
        "trunk": axes.trunks,
        "recipe": axes.recipes,
    }


def _cell(dataset: str, identity: dict[str, Any], protocol: Protocol) -> CellRecord:
    return CellRecord(
        id=cell_id(identity),
        protocol=protocol.name,
        protocol_version=protocol.version,
        dataset=dataset,
        trunk=identity["trunk"],
        recipe=identity["recipe"]["name"],
        method=identity["method"],
        row=identity["method"],
        identity=identity,
    )


def _progress(study: Study, cell: CellKey, without: Set[str]) -> CellPlan:
    protocol = study.protocol
    names = [name for name in _names(study.folder(cell)) if name not in without]
    count = Counter(name.split("-")[0] for name in names if ".fold-" not in name)
    trials = study.trials_asked(cell)
    chosen = "choice.json" in names
    runs = study.runs_asked(cell)
    wanted = {f"seed-{seed}" for seed in range(runs)}
    runs_left = wanted - {name.removesuffix(".json") for name in names}
    failed = bool(trials and not chosen and not runs_left) and untried(study.run(cell, 0))
    searched = trials == 0 or chosen or failed
    trials_left = 0 if searched else max(0, trials - count["trial"])
    partial = {f"trial-{count['trial']:03d}"} if trials_left else set()
    folds_done = sum(
        name.split(".")[0] in runs_left | partial for name in names if ".fold-" in name
    )
    return CellPlan(
        cell=cell,
        trials=trials,
        trials_done=count["trial"],
        runs=runs,
        runs_done=runs - len(runs_left),
        jobs_left=(trials_left + len(runs_left)) * protocol.folds - folds_done,
        chosen=chosen,
        failed=failed,
    )


def _names(folder: Path) -> list[str]:
    try:
        found = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [name for name in found if _RECORD.fullmatch(name) or name == "choice.json"]
