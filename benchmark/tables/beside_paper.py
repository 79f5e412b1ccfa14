"""Our rows beside the means of "A Metric Learning Reality Check", like with like.

A row is compared where trunk, recipe and every rule but the number of seeds are the paper's, as
the protocol ``reality-check`` has them. All others of the dataset stand apart, with what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmark.statistics import prediction
from benchmark.study.folder import CellKey, Study
from benchmark.study.scores import HEADLINE, Part
from benchmark.tables.frames import Tables, make_tables
from benchmark.tables.results import CellResults
from protocols import discovery, paper
from protocols.protocol import Protocol

PAPERS_EMBEDDINGS = {"separated_128": "separated", "concatenated_512": "concatenated"}
PROTOCOL = "reality-check"


@dataclass(frozen=True)
class Compared:
    """A published mean and ours; fractions, None where we have none.

    Attributes:
        method: our name, or "" for a method that does not ship.
        title: the name in the source.
        trunk: ours with its weights, "" where we have no row.
        ours: our mean, and where an exact repetition's mean must lie.
    """

    method: str
    title: str
    embedding: str
    metric: str
    paper: float
    trunk: str = ""
    ours: prediction.Prediction | None = None


@dataclass(frozen=True)
class Apart:
    """A row on the paper's dataset that is not compared: concatenated MAP@R and what differs."""

    row: str
    trunk: str
    recipe: str
    mean: float | None
    differs: tuple[str, ...]


def compare(dataset: str, study: Study | None) -> tuple[list[Compared], list[Apart]]:
    """Return one row per published mean of ``dataset`` and per row of ours, and those apart."""
    tables = make_tables(study) if study else None
    cells = [cell for cell in tables.cells if cell.key.dataset == dataset] if tables else []
    differing = {cell.key: differences(tables.study.protocol, cell.key) for cell in cells if tables}
    like = [cell for cell in cells if not differing[cell.key]]
    compared = []
    for row in paper.table(dataset):
        part = (PAPERS_EMBEDDINGS[row.embedding], row.metric)
        published = Compared(row.method, row.title, *part, row.value)
        found = [
            replace(published, trunk=cell.key.trunk, ours=predicted)
            for cell in like
            if row.method == cell.key.method
            and tables
            and (predicted := _predicted(tables, cell, part)).runs
        ]
        compared += found or [published]
    apart = [
        Apart(key.row, key.trunk, key.recipe, _mean(cell), differing[key])
        for cell in cells
        if differing[key := cell.key] and any(cell.values.values())
    ]
    return compared, apart


def differences(protocol: Protocol, cell: CellKey) -> tuple[str, ...]:
    """Return in words what keeps a row from being the paper's, () if nothing does."""
    papers: Protocol = discovery.load("protocol", PROTOCOL)
    trunk, _, weights = cell.trunk.partition("+")
    axes = (("trunk", trunk, papers.trunk), ("recipe", cell.recipe, papers.recipe))
    found = [f"{name} {met}, not {wanted}" for name, met, wanted in axes if met != wanted]
    if not weights:
        found.append("no pretrained weights")
    return (*found, *rule_differences(protocol, cell.dataset))


def rule_differences(protocol: Protocol, dataset: str) -> tuple[str, ...]:
    """Return in words which rules differ from the paper's on ``dataset``; seeds are no rule."""
    ours, papers = (
        dict(_flat({**each.on(dataset).rules(), "paces": None}))
        for each in (protocol, discovery.load("protocol", PROTOCOL))
    )
    return tuple(
        f"{name} {ours.get(name)}, not {papers.get(name)}"
        for name in {**papers, **ours}
        if ours.get(name) != papers.get(name)
    )


def _flat(rules: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in rules.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _predicted(tables: Tables, cell: CellResults, part: Part) -> prediction.Prediction:
    """Return our mean of a part and the interval for the paper's, searches counted if repeated."""
    return prediction.mean_of(_groups(tables, cell, part), paper.RUNS)


def _groups(tables: Tables, cell: CellResults, part: Part) -> Sequence[Sequence[float]]:
    """Return the cell's values by search."""
    frame = tables.searches
    if len(frame):
        here = cell.columns
        chosen = (frame[list(here)] == list(here.values())).all(axis=1)
        by_search = frame[chosen].groupby("search")["_".join(part)]
        if len(by_search) > 1:
            return [values.dropna().tolist() for _, values in by_search]
    return [list(cell.values[part].values())]


def _mean(cell: CellResults) -> float | None:
    return prediction.mean_of([list(cell.values[HEADLINE].values())], paper.RUNS).mean
