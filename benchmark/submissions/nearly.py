"""Runs that agree on most queries: one training handed in twice, with a little changed.

Two trainings that have nothing in common still find the same for many queries: nothing, or all
there is. Where a query's MAP@R is neither 0 nor 1, honest runs on one test set agree to the last
bit on a third at most (two linear probes of one frozen trunk, and one method under two protocols),
mostly on less than a tenth. A copy agrees wherever nobody changed it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.submissions.alike import collapsed
from benchmark.submissions.read import SubmittedRow

SAMPLED = 1024  # queries that are compared, evenly spread over the test images
_FEWEST = 20  # of them with a value between 0 and 1, below which agreement says nothing
_SAME = 0.95  # share of agreement that no two trainings reach
_LIKE = 0.6  # share worth a human look: strong models on small classes may come near

Floats = NDArray[np.float32]
Problem = tuple[str, str]  # message, path below the results folder


@dataclass(frozen=True, eq=False)
class Sample:
    """Some queries of a run with F folds.

    Attributes:
        found: (F + 1, S) MAP@R: of the joined embedding, then of each fold model.
        moved: (F + 1,) whether the network that was kept had trained: two that kept their first
            one, of step 0, are one network where they started from one seed.
    """

    found: Floats
    moved: NDArray[np.bool_]


def sampled(row: SubmittedRow) -> dict[int, Sample]:
    """Return what some queries found by seed; nothing of runs that may honestly be alike.

    Those are runs without training, or collapsed to a point.
    """
    found = {}
    for seed, values in sorted(row.values.items()):
        run = row.runs.get(seed)
        if run is None or run.status == "failed" or row.untrained or collapsed(run, values):
            continue
        every = values.found["map_at_r"]
        at = np.linspace(0, every.shape[1] - 1, min(SAMPLED, every.shape[1])).astype(int)
        moved = [step is None or step > 0 for step in run.best_steps]
        moved += [True] * (len(every) - 1 - len(moved))  # too few are a problem already
        found[seed] = Sample(every[:, at].astype(np.float32), np.array([any(moved), *moved]))
    return found


@dataclass(frozen=True)
class _Run:
    """One run: what was trained, where its file lies, and its sampled queries."""

    trained: tuple[object, ...]
    place: str
    path: str
    sample: Sample

    def may_be_alike(self, other: _Run) -> bool:
        """Return whether the two are one cell's under two protocols, which may not differ."""
        return self.trained == other.trained and self.place != other.place


def between(
    rows: Iterable[tuple[SubmittedRow, dict[int, Sample]]],
) -> tuple[list[Problem], list[str]]:
    """Return runs that agree with an earlier one on nearly all queries, and those on many.

    Each row, or further search, comes with what :func:`sampled` kept of it. Every two runs on one
    test set are compared: a minute for 3,000 of them.

    Returns:
        problems, and lines for a human's eye; for each run its nearest other one.
    """
    groups: dict[tuple[object, ...], list[_Run]] = defaultdict(list)
    for row, found in rows:
        if row.cell is None:
            continue
        cell, content = row.cell, row.cell.made_of.dataset_digest
        trained = (cell.method, cell.trunk, cell.recipe, row.search)
        for seed, sample in found.items():
            run = _Run(trained, row.place, f"{row.place}/seed-{seed}.json", sample)
            groups[cell.dataset, content, sample.found.shape].append(run)
    met, looks = list[Problem](), list[str]()
    for group in groups.values():
        for run, other, share in _nearest(group):
            said = f"agrees with {other.path} on {100 * share:.0f} % of the queries between 0 and 1"
            if share >= _SAME:
                met.append((f"{said}: one training handed in twice", run.path))
            elif share >= _LIKE:
                looks.append(f"{run.path}: {said}")
    return met, looks


def _nearest(group: list[_Run]) -> Iterator[tuple[_Run, _Run, float]]:
    """Yield each run with the earlier one that it agrees with most, and on what share."""
    every = np.stack([run.sample.found for run in group])  # (N, F + 1, S)
    moved = np.stack([run.sample.moved[: every.shape[1]] for run in group])  # (N, F + 1)
    apart = (every > 0) & (every < 1)
    for n in range(1, len(group)):
        counted = apart[:n] | apart[n]
        equal = (every[:n] == every[n]) & counted
        number = counted.sum(axis=2)  # (n, F + 1)
        told = (number >= _FEWEST) & (moved[:n] | moved[n])
        share = np.where(told, equal.sum(axis=2) / np.maximum(number, 1), 0.0)
        most = share.max(axis=1)  # of the joined embedding or any fold
        honest = [group[n].may_be_alike(other) for other in group[:n]]
        most[honest] = 0.0
        at = int(most.argmax())
        yield group[n], group[at], float(most[at])
