"""Where methods stand across datasets: means, gains over the baseline and ranks, as columns."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics import across, paired

NO_INTERVAL = f"none (n < {paired.MIN_RUNS})"
Scores = dict[str, NDArray[np.float64]]  # values of a method by dataset
Values = dict[str, dict[str, dict[int, float]]]  # by method, dataset and seed


def columns(
    values: Values, datasets: Sequence[str], baseline: str, fixed: Set[str], aside: Set[str]
) -> dict[str, dict[str, Any]]:
    """Return each method's columns from its values by dataset and seed.

    Args:
        values: of a method only the datasets on which all its runs are done: a mean over those
            that came through is a mean of something else.
        datasets: all that a ranked method must have.
        baseline: the method that gains are over.
        fixed: methods of which one run stands for every seed that another one has.
        aside: methods that do not compete. They have a mean and a gain, and move nobody's rank.
    """
    whole = [method for method, own in values.items() if len(own) == len(datasets)]
    wide = _at_every_seed({method: values[method] for method in whole}, fixed)
    ranked = _ranked({m: own for m, own in wide.items() if m not in aside}, datasets)
    found: dict[str, dict[str, Any]] = {}
    for method, own in values.items():
        row: dict[str, Any] = {
            "datasets": len(own),
            "runs": sum(map(len, own.values())),
            "ci_kind": None,
            "cliques": "",
            "note": ""
            if method in whole
            else "not whole on " + ", ".join(d for d in datasets if d not in own),
        }
        if method in whole:
            mean = across.mean(_arrays(own))
            none = paired.FIXED if method in fixed else NO_INTERVAL
            row |= {"ci_kind": across.KIND if mean.low is not None else none}
            row |= _estimate("mean", mean)
            row |= ranked.get(method, {})
            both = values if {method, baseline} <= fixed else wide
            if baseline in whole and (gains := _gains(both[method], both[baseline])):
                row |= _estimate("gain", across.mean(gains))
                row |= _estimate("gain_iqm", across.interquartile_mean(gains))
        found[method] = row
    return found


def _at_every_seed(values: Values, fixed: Set[str]) -> Values:
    """Return ``values`` with a fixed method's one run at every seed that others have."""
    seeds: dict[str, set[int]] = {}
    for method, own in values.items():
        for dataset, runs in own.items() if method not in fixed else ():
            seeds.setdefault(dataset, set()).update(runs)
    return {
        method: {
            d: dict.fromkeys(seeds.get(d, runs), next(iter(runs.values())))
            if method in fixed
            else runs
            for d, runs in own.items()
        }
        for method, own in values.items()
    }


def _ranked(values: Values, datasets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the columns of methods that have all datasets, over the seeds all of them have."""
    methods = list(values)
    scores: Scores = {}
    for dataset in datasets:
        own = [values[method][dataset] for method in methods]
        common = sorted(set.intersection(*(set(runs) for runs in own))) if own else []
        if not common:
            return {method: {"note": f"no seed that all have on {dataset}"} for method in methods}
        scores[dataset] = np.array([[runs[seed] for seed in common] for runs in own])
    reason = across.why_not(len(methods), len(datasets))
    cliques = None
    if not reason:
        means = np.array([own.mean(axis=1) for own in scores.values()]).T
        cliques = across.critical_differences(means)
    columns = {}
    for at, rank in enumerate(across.mean_ranks(scores)):
        groups = enumerate(cliques.groups if cliques else (), 1)
        columns[methods[at]] = {
            **_estimate("rank", rank),
            "cliques": " ".join(str(number) for number, group in groups if at in group),
            "note": reason,
        }
    return columns


def _gains(own: dict[str, dict[int, float]], base: dict[str, dict[int, float]]) -> Scores:
    """Return own minus baseline at the seeds both have; nothing if a dataset has no such seed."""
    gains = {
        d: np.array([own[d][s] - base[d][s] for s in sorted(own[d].keys() & base[d].keys())])
        for d in own
    }
    return gains if all(map(len, gains.values())) else {}


def _arrays(own: dict[str, dict[int, float]]) -> Scores:
    return {d: np.array([runs[s] for s in sorted(runs)]) for d, runs in own.items()}


def _estimate(name: str, estimate: across.Estimate) -> dict[str, Any]:
    return {name: estimate.value, f"{name}_ci_low": estimate.low, f"{name}_ci_high": estimate.high}
