"""The plan of ten thousand cells, and tables from ten thousand run records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmark.study.folder import CellKey, Study
from benchmark.study.records import COUNTS, RunRecord
from benchmark.tables.frames import make_tables, write_tables
from protocols import discovery
from protocols.discovery import Registry
from tests.perf.rows import ROUNDS, Row, in_turn, seconds, shown
from tests.proven import put

RECORDS, SEEDS = 10_000, 10


def plan(folder: Path) -> list[Row]:
    """Return the row on planning: names checked, code digested, record files counted."""
    registry = Registry()
    methods = [m for m in registry.names("method") if m not in ("untrained", "pretrained")]
    trunks = [f"timm:net{n}" for n in range(35)]
    recipes = registry.names("recipe")
    per_dataset = (len(methods) + 1) * len(trunks) * len(recipes)
    names = ["emoji", "toy"]
    count = per_dataset * len(names)
    from benchmark.study import datasets, grid
    from benchmark.study.folder import Study as Folder

    protocol = discovery.load("protocol", "toy")
    data = tuple(datasets.find(names, registry, None))
    axes = grid.Axes(tuple(methods), data, tuple(trunks), tuple(recipes))
    for method in methods:  # torch itself is loaded once, whatever the plan's size
        registry.load("method", method)

    def once() -> float:
        fresh = Registry()

        def work() -> None:
            found = grid.make_cells(axes, protocol, fresh)
            keys = [grid.key_of(record, protocol, fresh, None) for record in found]
            study = Folder(folder / "planned", protocol).extend(keys, protocol)
            grid.progress_of(study, keys)
            grid.stale_records(study)

        return seconds(work)

    once()
    found = in_turn({"plan": once})
    detail = f"{count:,} cells, the work of `plan` without printing; {shown(found)} "
    value = sorted(found["plan"])[ROUNDS // 2] * 10_000 / count
    return [Row("plan of 10,000 cells", value, "<= 2", ROUNDS, detail, "s")]


def tabulate(folder: Path) -> list[Row]:
    """Return the row on tables: read from disk, compared, written."""
    study = _study(folder / "recorded")

    def once() -> float:
        return seconds(lambda: write_tables(make_tables(study), study.out / "tables"))

    once()
    found = in_turn({"tables": once})
    value = sorted(found["tables"])[ROUNDS // 2]
    detail = f"{RECORDS // SEEDS} cells of {SEEDS} seeds, files in the page cache"
    return [Row(f"tables from {RECORDS:,} run records", value, "<= 5", ROUNDS, detail, "s")]


def _study(out: Path) -> Study:
    """Write a study's run records: methods 0..24 on 40 datasets."""
    protocol = replace(discovery.load("protocol", "toy"), seeds=SEEDS)
    places = [(f"data{d:02}", f"method{m:02}") for d in range(40) for m in range(25)]
    cells = [CellKey(f"{m}{d}".ljust(16, "0"), d, "tiny", "adam", m, m) for d, m in places]
    study = Study(out, protocol).extend(cells, protocol)
    if not out.exists():
        for number, cell in enumerate(cells):
            for seed in range(SEEDS):
                _write(study, cell, seed, 0.2 + 0.01 * (number % 25) + 0.003 * (seed * 7 % 10))
    return study


def _write(study: Study, cell: CellKey, seed: int, value: float) -> None:
    found = {"precision_at_1": value + 0.3, "r_precision": value + 0.1, "map_at_r": value}
    record = RunRecord(
        id=f"{cell.id}{seed}",
        cell=cell.id,
        seed=seed,
        settings={"margin": 0.1, "weight": 1.0},
        status="done",
        folds=[found] * study.protocol.folds,
        separated=found,
        concatenated=found,
        validation=found,
        best_steps=[20] * study.protocol.folds,
        excluded=0,
        embeddings_sha256="0" * 64,
        embeddings_shape=[1000, 64],
        counts=dict.fromkeys(COUNTS, 1000),
        measured={"seconds": 1.0},
    )
    put(study, cell, record)
