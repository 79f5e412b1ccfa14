"""The per-query results that pictures are chosen from, and which queries stand out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.study.queries import Arrays, read_queries
from benchmark.study.records import RunRecord
from benchmark.study.scores import HEADLINE

_MAIN = "_".join(HEADLINE)
MAX_SEEDS = 10  # read to compare two methods
MAX_BYTES = 40_000_000  # of files read to compare the methods of one place

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Queries:
    """A run's per-query results over the whole test split; NaN where an image is no query."""

    seed: int
    index: Ints  # (N,) image numbers in the dataset
    labels: Ints  # (N,)
    neighbours: Ints  # (N, K) positions, nearest first
    map_at_r: Floats  # (N,) fractions, NaN where the query is excluded


def queries_of(out: Path, run: RunRecord) -> Queries | str:
    """Return a run's per-query results, or in one line why they cannot be shown."""
    arrays = read_queries(out, run, ("index", "labels", "query", "neighbours", _MAIN))
    if isinstance(arrays, str):
        return arrays
    return Queries(
        seed=run.seed,
        index=arrays["index"].astype(np.int64),
        labels=arrays["labels"].astype(np.int64),
        neighbours=_spread(arrays, "neighbours", 0).astype(np.int64),
        map_at_r=_spread(arrays, _MAIN, np.nan).astype(np.float64),
    )


def _spread(arrays: Arrays, name: str, missing: float) -> NDArray[Any]:
    """Return a per-query array over all test images, ``missing`` where one is no query."""
    values = arrays[name]
    spread = np.full((len(arrays["index"]), *values.shape[1:]), missing, values.dtype)
    spread[arrays["query"]] = values
    return spread


class Reader:
    """Reads each file once, and no more seeds than a report has time for."""

    def __init__(self, out: Path, methods: int) -> None:
        self._out, self._methods = out, max(methods, 1)
        self._read: dict[str, Queries | str] = {}

    def read(self, run: RunRecord) -> Queries | str:
        """Return :func:`queries_of` a run."""
        where = f"{run.cell} {run.seed}"
        if where not in self._read:
            self._read[where] = queries_of(self._out, run)
        return self._read[where]

    def both(
        self, first: Sequence[RunRecord], second: Sequence[RunRecord]
    ) -> Iterator[tuple[Queries, Queries]]:
        """Yield both methods' results at the first seeds they share, of the same test images."""
        by_seed = {run.seed: run for run in second}
        shared = [run for run in first if run.seed in by_seed]
        for run in shared[: self._seeds(shared[0])] if shared else ():
            a, b = self.read(run), self.read(by_seed[run.seed])
            if isinstance(a, str) or isinstance(b, str) or not np.array_equal(a.index, b.index):
                continue
            yield a, b

    def _seeds(self, run: RunRecord) -> int:
        """Return how many seeds fit into the bytes that may be read."""
        path = self._out / (run.queries or {}).get("path", "")
        size = path.stat().st_size if path.is_file() else 1
        return max(1, min(MAX_SEEDS, MAX_BYTES // (max(size, 1) * self._methods)))


def extremes(values: Floats, labels: Ints, count: int) -> list[int]:
    """Return the positions of the ``count`` lowest values, NaN left out.

    Among equal values, every class gives its first query before any gives a second.
    """
    known = np.flatnonzero(~np.isnan(values))
    value, label = values[known], labels[known]
    order = np.lexsort((label, value))
    changes = (np.diff(value[order]) != 0) | (np.diff(label[order]) != 0)
    starts = np.flatnonzero(np.concatenate([[True], changes])) if len(order) else order
    group = np.zeros(len(order), np.int64)
    group[starts] = starts
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - np.maximum.accumulate(group)
    return [int(p) for p in known[np.lexsort((known, turn, value))][:count]]
