"""Our rows beside the means of "A Metric Learning Reality Check", like with like.

A row is compared where trunk, recipe and every rule but the number of seeds are the paper's, as
the protocol ``reality-check`` has them, be it after a search or under the settings that the
paper's own searches chose. All others of the dataset stand apart, with what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmark.statistics import prediction
from benchmark.study import failures
from benchmark.study.folder import CellKey, Study
from benchmark.study.scores import HEADLINE
from benchmark.tables.frames import make_tables
from benchmark.tables.results import CellResults, read
from protocols import discovery, paper
from protocols.protocol import Protocol

PAPERS_EMBEDDINGS = {"separated_128": "separated", "concatenated_512": "concatenated"}
PROTOCOL = "reality-check"


@dataclass(frozen=True)
class Runs:
    """How many runs of a row came through, failed, were lost by the machine, and are asked for."""

    done: int
    failed: int
    lost: int
    asked: int

    @property
    def whole(self) -> bool:
        """Return whether every run that is asked for came through."""
        return self.done == self.asked

    @property
    def words(self) -> str:
        """Return for example ``3/10, 7 failed``."""
        return f"{self.done}/{self.asked}" + (f", {self.failed} failed" if self.failed else "")


@dataclass(frozen=True)
class Compared:
    """A published mean and ours; fractions, None where we have none.

    Attributes:
        published: the mean, with where it was read.
        embedding: ``separated`` or ``concatenated``.
        trunk: ours with its weights, "" where we have no row.
        ours: our mean, and where an exact repetition's mean must lie; that only of whole rows.
        runs: of our row.
        notes: what a reader must know of our row.
        doubts: what keeps it from being judged.
    """

    published: paper.PublishedMean
    embedding: str
    trunk: str = ""
    ours: prediction.Prediction | None = None
    runs: Runs | None = None
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """Return our name, or "" for a method that does not ship."""
        return self.published.method

    @property
    def metric(self) -> str:
        """Return which metric it is."""
        return self.published.metric

    @property
    def told(self) -> prediction.Told | None:
        """Return what our runs tell about the published mean, None where they cannot be asked."""
        if self.ours is None or self.doubts or self.published.doubtful:
            return None
        return prediction.tell(self.ours, self.published.value, self.published.read_error)


@dataclass(frozen=True)
class Apart:
    """A row on the paper's dataset that is not compared: concatenated MAP@R and what differs."""

    row: str
    trunk: str
    recipe: str
    mean: float | None
    runs: Runs
    differs: tuple[str, ...]


def compare(dataset: str, study: Study | None) -> tuple[list[Compared], list[Apart]]:
    """Return one row per published mean of ``dataset`` and per row of ours, and those apart."""
    if study is None:
        return [
            Compared(mean, PAPERS_EMBEDDINGS[mean.embedding]) for mean in paper.table(dataset)
        ], []
    cells = [cell for cell in make_tables(study).cells if cell.key.dataset == dataset]
    rows = [row for row in (_searches(study, cell) for cell in cells) if any(s.runs for s in row)]
    differing = {row[0].key: differences(study.protocol, row[0].key) for row in rows}
    compared = []
    for mean in paper.table(dataset):
        published = Compared(mean, PAPERS_EMBEDDINGS[mean.embedding])
        same = [row for row in rows if row[0].key.method == mean.method]
        found = [_beside(published, study, row) for row in same if not differing[row[0].key]]
        compared += found or [published]
    apart = [
        Apart(key.row, key.trunk, key.recipe, _mean(row[0]), _runs(study, row[:1]), differing[key])
        for row in rows
        if differing[key := row[0].key]
    ]
    return compared, apart


def _searches(study: Study, cell: CellResults) -> list[CellResults]:
    """Return the cell and its further searches with what is recorded of them."""
    return [cell, *(read(study, key) for key in study.searches(cell.key)[1:])]


def _beside(published: Compared, study: Study, searches: Sequence[CellResults]) -> Compared:
    """Return a published mean with our row, all searches of it."""
    key, runs = searches[0].key, _runs(study, searches)
    part = (published.embedding, published.metric)
    ours = prediction.mean_of([list(each.values[part].values()) for each in searches], paper.RUNS)
    return replace(
        published,
        trunk=key.trunk,
        # Runs that came through are no sample of all.
        ours=ours if runs.whole else replace(ours, low=None, high=None),
        runs=runs,
        notes=_notes(study.protocol, key),
        doubts=_doubts(study, key),
    )


def _runs(study: Study, searches: Sequence[CellResults]) -> Runs:
    """Return how many runs of a row's searches there are."""
    runs = [run for each in searches for run in each.runs]
    return Runs(
        done=sum(run.status == "done" for run in runs),
        failed=sum(run.status == "failed" for run in runs),
        lost=sum(map(failures.lost, runs)),
        asked=sum(study.runs_asked(each.key) for each in searches),
    )


def _notes(protocol: Protocol, key: CellKey) -> tuple[str, ...]:
    """Return in which form of its method the row differs, () if in none."""
    found = paper.other_form(key.method, searched=protocol.params != "published")
    return (found,) if found else ()


def _doubts(study: Study, key: CellKey) -> tuple[str, ...]:
    """Return why the row's weights are not known to be the paper's, () if they are."""
    record = study.cell_record(key)
    kind, _, digits = str(record.identity.get("weights") if record else "").partition(":")
    papers = f"the paper's file {paper.WEIGHTS} begins with {paper.WEIGHTS_SHA256}: no verdict"
    if kind != "sha256":
        return (f"the study holds no sha256 of the weights' file, {papers}",)
    if not digits.startswith(paper.WEIGHTS_SHA256):
        return (f"weights with sha256 {digits[:9]}..., {papers}",)
    return ()


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
    """Return in words which rules differ from the paper's on ``dataset``; seeds are no rule.

    Where the settings are those that the paper chose nothing is searched, so no rule of a search
    counts.
    """
    chosen = protocol.params == "published"
    ours, papers = (
        {
            name: value
            for name, value in _flat({**each.on(dataset).rules(), "paces": None})
            if not (chosen and (name == "params" or name.startswith("search.")))
        }
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


def _mean(cell: CellResults) -> float | None:
    return prediction.mean_of([list(cell.values[HEADLINE].values())], paper.RUNS).mean
