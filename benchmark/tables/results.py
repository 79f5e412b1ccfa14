"""A cell with all that is recorded of it, as the tables need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics import bootstrap, paired
from benchmark.study.aside import GONE, missing_trial, other_choice
from benchmark.study.failures import untried
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import ChoiceRecord, RunRecord, TrialRecord
from benchmark.study.scores import EMBEDDINGS, PARTS, Part, reported_alone
from benchmark.tables.class_sums import ClassSums, class_sums

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassInterval:
    """How far a number would move with other test classes; ``low`` and ``high`` by part."""

    classes: int | None
    low: Sequence[float | None]
    high: Sequence[float | None]
    kind: str

    def columns(self, part: Part) -> dict[str, Any]:
        """Return the columns that summary and pairs end with."""
        if part not in PARTS:
            return _none("reported alone").columns(PARTS[0])
        at = PARTS.index(part)
        return {
            "test_classes": self.classes,
            "test_ci_low": self.low[at],
            "test_ci_high": self.high[at],
            "test_ci_kind": self.kind,
        }


@dataclass(frozen=True)
class CellResults:
    """A cell with what is recorded of it."""

    key: CellKey
    runs: list[RunRecord]
    trials: list[TrialRecord]
    choice: ChoiceRecord | None
    classes: ClassSums | str

    @property
    def place(self) -> dict[str, Any]:
        """Return the columns that say where in the grid its table stands."""
        return {"dataset": self.key.dataset, "trunk": self.key.trunk, "recipe": self.key.recipe}

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns that every row of the cell starts with."""
        return {**self.place, "method": self.key.row}

    @cached_property
    def values(self) -> dict[Part, dict[int, float]]:
        """Return the done runs' values by seed, for each (embedding, metric)."""
        return {part: self._by_seed(part) for part in PARTS}

    @cached_property
    def reported(self) -> dict[Part, dict[int, float]]:
        """Return ``values`` of what is reported alone; nothing where older runs lack it."""
        return {part: self._by_seed(part) for part in reported_parts([self])}

    def _by_seed(self, part: Part) -> dict[int, float]:
        found = {run.seed: value_of(run, *part) for run in self.runs if run.status == "done"}
        return {seed: value for seed, value in found.items() if value is not None}

    def interval(self, part: Part) -> paired.Interval:
        """Return the mean over runs of an (embedding, metric) with its interval over seeds."""
        values = (self.values | self.reported)[part]
        return paired.interval_of(list(values.values()), fixed=self.key.deterministic)

    @cached_property
    def class_interval(self) -> ClassInterval:
        """Return the interval over test classes of the means over runs."""
        if isinstance(self.classes, str):
            return _none(self.classes)
        replicates = self.replicates(tuple(self.classes.by_seed))
        return _interval(self, replicates, bootstrap.scores_over_classes)

    def replicates(self, seeds: tuple[int, ...]) -> Floats:
        """Return the means over ``seeds`` with the test classes resampled, (resamples, parts)."""
        if seeds not in self._replicates:
            assert not isinstance(self.classes, str)
            drawn = bootstrap.draw_classes(self.key.dataset, len(self.classes.labels))
            sums = np.mean([self.classes.by_seed[s] for s in seeds], axis=0)
            found = bootstrap.class_means(drawn, sums, self.classes.counts)
            self._replicates[seeds] = found
        return self._replicates[seeds]

    @cached_property
    def _replicates(self) -> dict[tuple[int, ...], Floats]:
        return {}


def read(study: Study, key: CellKey) -> CellResults:
    """Return a cell with its records, read now."""
    runs, trials, choice = study.runs(key), study.trials(key), study.choice(key)
    if choice is None and any(study.folder(key).glob("choice.json.*")):
        # Taken back, and not made again yet: what was made with it waits for the next one.
        runs = [run for run in runs if untried(run)]
    if choice and key.searched:
        if name := missing_trial(study, key, trials):
            study.doubts.setdefault(study.folder(key) / name, GONE)
        elif why := other_choice(choice, trials):
            study.doubts[study.record_path(key, choice)] = why
            choice = None
    return CellResults(key, runs, trials, choice, class_sums(study, key, runs))


def class_difference(a: CellResults, b: CellResults) -> ClassInterval:
    """Return the interval over test classes of a - b, over the seeds that both have done.

    Both are resampled with the same classes, so what is easy or hard for both cancels out.
    """
    if isinstance(a.classes, str) or isinstance(b.classes, str):
        return _none(a.classes if isinstance(a.classes, str) else str(b.classes))
    seeds = _seeds(a), _seeds(b)
    if a.key.deterministic == b.key.deterministic:  # else one run of the two stands for all seeds
        seeds = (tuple(sorted({*seeds[0]} & {*seeds[1]})),) * 2
    if not all(seeds):
        return _none("no common seed")
    if not np.array_equal(a.classes.labels, b.classes.labels):
        return _none("tested on different classes")
    replicates = a.replicates(seeds[0]) - b.replicates(seeds[1])
    return _interval(a, replicates, bootstrap.over_classes)


def reported_parts(cells: Sequence[CellResults]) -> tuple[Part, ...]:
    """Return (embedding, metric) of all that the cells' runs report and tables do not compare."""
    tested = [run.concatenated or {} for cell in cells for run in cell.runs]
    return tuple(product(EMBEDDINGS, reported_alone(name for found in tested for name in found)))


def value_of(run: RunRecord, part: str, metric: str) -> float | None:
    """Return one of a run's metrics, None where there is none."""
    values: dict[str, float] | None = getattr(run, part)
    return (values or {}).get(metric)


def _seeds(cell: CellResults) -> tuple[int, ...]:
    assert not isinstance(cell.classes, str)
    return tuple(cell.classes.by_seed)


def _interval(
    cell: CellResults,
    replicates: Floats,
    ends: Callable[[Floats, int], tuple[Floats, Floats]],
) -> ClassInterval:
    assert not isinstance(cell.classes, str)
    classes = len(cell.classes.labels)
    if classes < bootstrap.MIN_CLASSES:
        return _none(f"classes < {bootstrap.MIN_CLASSES}")
    low, high = ends(replicates, classes)
    kind = f"class bootstrap {100 * bootstrap.LEVEL:g}%"
    return ClassInterval(classes, low.tolist(), high.tolist(), kind)


def _none(reason: str) -> ClassInterval:
    nothing = [None] * len(PARTS)
    return ClassInterval(None, nothing, nothing, f"none ({reason})")
