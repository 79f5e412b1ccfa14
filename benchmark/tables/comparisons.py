"""Rows that compare: methods of one dataset by seed, methods across datasets, repeated searches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics import paired, standings, untested, variance, verdicts
from benchmark.study.folder import competes
from benchmark.study.scores import PARTS, Part
from benchmark.tables.results import CellResults, class_difference
from protocols.protocol import Protocol


def pair_rows(cells: Sequence[CellResults], protocol: Protocol) -> Iterator[dict[str, Any]]:
    """Yield a row for every pair of methods of one dataset, trunk and recipe, for each metric."""
    # The same signs for every pair: a row depends on its own values, not on its neighbours.
    rng = np.random.default_rng(0)
    many = protocol.seeds > paired.EXACT_PAIRS
    flips = paired.draw_flips(protocol.seeds, rng) if many else None
    for _, group in groupby(cells, key=lambda cell: cell.key.axes[:3]):
        methods = list(group)
        fixed = [cell.key.deterministic for cell in methods]
        pairs, declared, family = _family(methods, protocol)
        own = [untested.Contestant(cell.runs, cell.key.trains) for cell in methods]
        reasons = untested.reasons(own, pairs)
        over_classes = [class_difference(methods[a], methods[b]) for a, b in pairs]
        for part in PARTS:
            values = _matrix(methods, part, protocol.seeds)
            judged = verdicts.judge(
                values, pairs, declared, sum(declared), flips=flips, fixed=fixed, untested=reasons
            )
            rows = zip(pairs, declared, judged, over_classes, reasons, strict=True)
            for (a, b), ours, result, other, reason in rows:
                yield {
                    **methods[0].place,
                    "embedding": part[0],
                    "metric": part[1],
                    "method_a": methods[a].key.row,
                    "method_b": methods[b].key.row,
                    "family": family if ours else None,
                    **_result(result),
                    **other.columns(part),
                    "untested": (ours and reason) or None,
                }


def _family(
    methods: Sequence[CellResults], protocol: Protocol
) -> tuple[list[tuple[int, int]], list[bool], str]:
    """Return all pairs of methods, which of them are declared comparisons, and the family's name.

    The family of comparisons is declared before any result is seen: every method against the
    protocol's baseline, which stands as ``method_b``, so that differences read "method minus
    baseline". Without the baseline all pairs are the family. What leaves the trunk as it is
    checks that training does something and is no contestant, so it is outside the family unless
    it is the baseline itself; so is what was told more than images and labels. Holm's adjustment
    and a verdict belong to the family's pairs only; the others show their interval and their
    unadjusted p.
    """
    is_baseline = [cell.key.method == protocol.baseline for cell in methods]
    aside = [not competes(cell.key, protocol) for cell in methods]
    pairs = [(b, a) if is_baseline[a] else (a, b) for a, b in combinations(range(len(methods)), 2)]
    declared = [
        (is_baseline[b] or not any(is_baseline)) and not aside[a] and not aside[b] for a, b in pairs
    ]
    return pairs, declared, "baseline" if any(is_baseline) else "all pairs"


def _result(judged: verdicts.Judged) -> dict[str, Any]:
    result = judged.paired
    return {
        "n": result.n,
        "mean_difference": result.difference.mean,
        **ends(result.difference),
        "p_sign_flip": result.p,
        "p_holm": judged.p_holm,
        "p_note": result.p_note or None,
        "probability_a_better": result.probability,
        "effect_sd": result.effect,
        "verdict": judged.verdict,
        "p_t": judged.p_t,
        "mark": judged.mark or None,
        "p_equivalent": judged.p_equivalent,
        "ci_low_family": judged.low,
        "ci_high_family": judged.high,
        "ci_kind_family": judged.kind,
        "family_size": judged.family,
        "needs_seeds": judged.needs,
        "p": judged.p,
    }


def across_rows(cells: Sequence[CellResults], protocol: Protocol) -> Iterator[dict[str, Any]]:
    """Yield a row for every method, embedding and metric of each trunk and recipe.

    Only where there are two datasets or more. A method that has not all its runs done on one of
    them is shown without numbers: a mean over fewer datasets or runs is a mean of something else.
    What only shows what the trunk can do has no rank. What was told more than images and labels is
    left out.
    """
    cells = [cell for cell in cells if not cell.key.side]
    for trunk, recipe in sorted({cell.key.axes[1:3] for cell in cells}):
        ours = [cell for cell in cells if cell.key.axes[1:3] == (trunk, recipe)]
        datasets = sorted({cell.key.dataset for cell in ours})
        if len(datasets) < 2:
            continue
        methods = sorted({(cell.key.method, cell.key.row) for cell in ours})
        by_key = {(cell.key.method, cell.key.dataset): cell for cell in ours}
        fixed = {cell.key.method for cell in ours if cell.key.deterministic}
        aside = {cell.key.method for cell in ours if not competes(cell.key, protocol)}
        for part in PARTS:
            values = {
                method: {
                    d: by_key[method, d].values[part]
                    for d in datasets
                    if (method, d) in by_key and _whole(by_key[method, d], part, protocol.seeds)
                }
                for method, _ in methods
            }
            columns = standings.columns(values, datasets, protocol.baseline, fixed, aside)
            for method, row in methods:
                yield {
                    "trunk": trunk,
                    "recipe": recipe,
                    "embedding": part[0],
                    "metric": part[1],
                    "method": row,
                    **columns[method],
                }


def variance_rows(repeated: Sequence[Sequence[CellResults]]) -> Iterator[dict[str, Any]]:
    """Yield where the spread comes from, for every cell that was searched more than once."""
    for searches in repeated:
        for part in PARTS:
            groups = [list(cell.values[part].values()) for cell in searches]
            sources = variance.split(groups)
            yield {
                **searches[0].columns,
                "embedding": part[0],
                "metric": part[1],
                "searches": sources.searches,
                "runs": sources.runs,
                "mean": sources.mean.mean,
                **ends(sources.mean),
                "sd_search": sources.sd_search,
                "sd_seed": sources.sd_seed,
                "share_search": sources.share,
                "share_ci_low": sources.share_low,
                "share_ci_high": sources.share_high,
            }


def _whole(cell: CellResults, part: Part, seeds: int) -> bool:
    return len(cell.values[part]) == (1 if cell.key.deterministic else seeds)


def ends(interval: paired.Interval) -> dict[str, Any]:
    """Return the columns of a t-interval."""
    return {"ci_low": interval.low, "ci_high": interval.high, "ci_kind": interval.kind}


def _matrix(methods: Sequence[CellResults], part: Part, seeds: int) -> NDArray[np.float64]:
    """Return (methods, seeds) values, NaN where a run is missing or failed."""
    return np.array([[c.values[part].get(s, np.nan) for s in range(seeds)] for c in methods])
