"""A run's per-query results summed by class: what intervals over test classes resample.

The sums of a cell's runs are kept in one file below ``cache/``, keyed by the checksums in the
run records. It can be deleted at any time; then every run's per-query file is read again.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics.bootstrap import sum_by_class
from benchmark.study import checksums
from benchmark.study.folder import CellKey, Study
from benchmark.study.queries import fault, read_queries
from benchmark.study.records import RunRecord
from benchmark.study.scores import PARTS
from protocols.errors import StoreError

_VALUES = tuple(f"{embedding}_{metric}" for embedding, metric in PARTS)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassSums:
    """The per-query results of a cell's done runs, summed by class.

    Attributes:
        labels: (C,) class ids, ascending.
        counts: (C,) queries of each class, the excluded ones left out.
        by_seed: (parts, C) sums of the metrics, in the order of ``PARTS``; separated ones are
            means over the fold models.
    """

    labels: NDArray[np.int64]
    counts: Floats
    by_seed: dict[int, Floats]


def class_sums(study: Study, cell: CellKey, runs: Sequence[RunRecord]) -> ClassSums | str:
    """Return the sums of the done ``runs``, or in a few words why there are none."""
    wanted = {run.seed: _checksum(run) for run in runs if run.status == "done"}
    path = study.out / "cache" / "classes" / f"{cell.path}.npz"
    known = _read(path)
    kept = {key: known[key] for key in wanted.values() if key in known}
    fresh = [run for run in runs if run.seed in wanted and _checksum(run) not in kept]
    for run in fresh:
        found = _sum(study.out, run)
        if found is None:
            return _why_none(study.out, run)
        kept[_checksum(run)] = found
    if not kept:
        return "no run"
    first, *others = kept.values()
    if not all(first.same_classes(other) for other in others):
        return "runs were tested on different classes"
    if fresh:
        with suppress(StoreError):  # a folder that cannot be written costs time, nothing else
            _write(path, kept)
    sums = {seed: kept[key].sums for seed, key in wanted.items()}
    return ClassSums(first.labels, first.counts, sums)


@dataclass(frozen=True, eq=False)
class _RunSums:
    """One run's classes, its queries of each, and the sums (parts, C) of their metrics."""

    labels: NDArray[np.int64]
    counts: Floats
    sums: Floats

    def same_classes(self, other: _RunSums) -> bool:
        """Return whether both were tested with the same queries, as far as classes tell."""
        return np.array_equal(self.labels, other.labels) and np.array_equal(
            self.counts, other.counts
        )


def _checksum(run: RunRecord) -> str:
    return (run.queries or {}).get("sha256", "")


def _why_none(out: Path, run: RunRecord) -> str:
    """Return why a run has no sums: its file is not what its record says, or says too little."""
    if run.queries and (why := fault(out, run)):
        return f"per-query results of seed {run.seed} {why}"
    return f"no per-query results of seed {run.seed}"


def _sum(out: Path, run: RunRecord) -> _RunSums | None:
    """Return one run's sums, None if its per-query file lacks them or is not its record's."""
    arrays = read_queries(out, run, ("labels", "query", *_VALUES))
    if isinstance(arrays, str):
        return None
    labels = arrays["labels"][arrays["query"]]
    values = [arrays[name].astype(np.float64) for name in _VALUES]
    over_folds = [v if v.ndim == 1 else v.mean(axis=0) for v in values]
    return _RunSums(*sum_by_class(labels, np.array(over_folds)))


def _read(path: Path) -> dict[str, _RunSums]:
    """Return what is kept, by checksum; nothing where it is not what was written."""
    if not checksums.intact(path):
        return {}
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            labels, counts, sums = file["labels"], file["counts"], file["sums"]
            return {
                str(key): _RunSums(labels, counts, own)
                for key, own in zip(file["keys"], sums, strict=True)
            }
    except (OSError, ValueError, KeyError, BadZipFile):
        return {}


def _write(path: Path, kept: dict[str, _RunSums]) -> None:
    """Keep sums of runs over the same classes, by the checksum of their per-query files."""
    first, buffer = next(iter(kept.values())), io.BytesIO()
    np.savez(
        buffer,
        keys=np.array(list(kept)),
        labels=first.labels,
        counts=first.counts,
        sums=np.array([own.sums for own in kept.values()]),
    )
    checksums.write_signed(path, buffer.getvalue())
