"""How far a search, a choice and a validation can be trusted; from records alone, no torch.

Source: Spearman, "The Proof and Measurement of Association between Two Things", 1904.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmark.statistics import across, paired
from benchmark.study.records import ChoiceRecord, RunRecord, TrialRecord
from protocols.space import Integer, Real, Setting, Space, rebuilt

EDGE = 0.02  # of a range, on its scale: a value that close to a bound counts as on the bound
MIN_TRIALS = 20  # fewer trials say nothing about which hyperparameter matters
SHUFFLES = 19  # a largest share above that of all of them is met by chance once in twenty
MIN_RANKED = 5  # of 4 methods not even the same order is beyond chance: p = 2/24


@dataclass(frozen=True)
class Edge:
    """A chosen value on a bound of its range: a wider range might hold a better one."""

    name: str
    value: Setting
    bound: float
    side: str  # lower or upper


@dataclass(frozen=True)
class PhaseCount:
    """How many trainings reached a phase of their method or recipe.

    Attributes:
        name: the phase's.
        begins: its first steps, without those of trainings that did not reach it.
        trainings: all of them: runs times folds.
        reached: those in which it began.
        kept: those whose kept weights were trained in it.
    """

    name: str
    begins: tuple[int, ...]
    trainings: int
    reached: int
    kept: int


def phase_counts(runs: Sequence[RunRecord]) -> list[PhaseCount]:
    """Return the phases of the runs' trainings, in their order; none where nothing is recorded."""
    trainings = [
        (best, phases)
        for run in runs
        for best, phases in zip(run.best_steps, run.phases, strict=False)
        if phases
    ]
    found = []
    for name in dict.fromkeys(name for _, phases in trainings for name in phases):
        begun = [(best, phases[name]) for best, phases in trainings if name in phases]
        reached = [(best, step) for best, step in begun if step is not None]
        kept = sum(best is not None and best > step for best, step in reached)
        begins = tuple(sorted({step for _, step in reached}))
        found.append(PhaseCount(name, begins, len(begun), len(reached), kept))
    return found


def phases_reached(run: RunRecord) -> str:
    """Return for example ``group loss 4/4``: in how many of the run's trainings a phase began."""
    return "; ".join(f"{p.name} {p.reached}/{p.trainings}" for p in phase_counts([run]))


def space_of(choice: ChoiceRecord | None) -> Space:
    """Return what was searched, empty without a search or where an old record lacks it."""
    return rebuilt(choice.space) if choice else {}


def edges(settings: Mapping[str, Setting], space: Space) -> list[Edge]:
    """Return the numeric settings that sit on a bound, in the space's order."""
    on_bounds = []
    for name, parameter in space.items():
        if not isinstance(parameter, (Real, Integer)) or name not in settings:
            continue
        where = position(float(settings[name]), parameter)
        if where <= EDGE:
            on_bounds.append(Edge(name, settings[name], parameter.low, "lower"))
        elif where >= 1 - EDGE:
            on_bounds.append(Edge(name, settings[name], parameter.high, "upper"))
    return on_bounds


def position(value: float, parameter: Real | Integer) -> float:
    """Return where a value lies in its range, 0 to 1, on the scale that was searched."""
    scale = math.log if parameter.log else float
    low, high = scale(parameter.low), scale(parameter.high)
    return (scale(value) - low) / (high - low)


def importance(space: Space, trials: Sequence[TrialRecord]) -> dict[str, float]:
    """Return each hyperparameter's share in reaching the best trials, largest first.

    Shares add up to 1, so one is large also where nothing matters: of twenty trials by chance the
    larger of two has 80 % in the median. They are told only where the largest is above that of
    each of ``SHUFFLES`` searches with these settings and their values dealt out anew.

    Empty too where there are too few trials, or only one hyperparameter.
    """
    if len(trials) < MIN_TRIALS or len(space) < 2:
        return {}
    from benchmark.study.suggestions import importances  # only now: most reports need no optuna

    found, rng = importances(space, trials), np.random.default_rng(0)
    largest = max(found.values(), default=0.0)
    for _ in range(SHUFFLES):
        order = rng.permutation(len(trials)).tolist()
        dealt = [replace(own, value=trials[n].value) for own, n in zip(trials, order, strict=True)]
        if max(importances(space, dealt).values(), default=0.0) >= largest:
            return {}
    return found


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rho of two lists (n,), equal values sharing their mean rank.

    None below n = 5, or where all values of a list are equal.
    """
    if len(first) < MIN_RANKED:
        return None
    a, b = (across.ranks(np.array(values, np.float64)) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else None


def oracle_gap(runs: Sequence[RunRecord], metric: str) -> paired.Interval:
    """Return how much more the best epoch on test claims than the chosen one, over runs.

    A fraction in ``metric`` of separated embeddings; n = 0 where nothing was watched.
    """
    gaps = [
        run.oracle[metric] - run.separated[metric] for run in runs if run.oracle and run.separated
    ]
    return paired.t_interval(gaps)
