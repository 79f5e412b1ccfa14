"""How far a row's mean would move with other test classes, from what it found for every query.

The same resamples and the same sums as in a study's tables, so both print one interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmark.statistics import bootstrap
from benchmark.study.scores import PARTS, Part
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.values import Values


def class_columns(row: SubmittedRow) -> dict[Part, dict[str, Any]]:
    """Return the columns of the interval over test classes, by part; the kind says why if none."""
    done = [seed for seed, run in row.runs.items() if run.status == "done"]
    found = [_sums(row.values[seed]) for seed in done if seed in row.values]
    if row.cell is None or not found or len(found) < len(done):
        return _none("no per-query values")
    labels, counts, _ = found[0]
    if not all(np.array_equal(labels, a) and np.array_equal(counts, b) for a, b, _ in found):
        return _none("runs were tested on different classes")
    if len(labels) < bootstrap.MIN_CLASSES:
        return _none(f"classes < {bootstrap.MIN_CLASSES}")
    drawn = bootstrap.draw_classes(row.cell.dataset, len(labels))
    sums = np.mean([s for _, _, s in found], axis=0)
    means = bootstrap.class_means(drawn, sums, counts)
    low, high = bootstrap.scores_over_classes(means, len(labels))
    kind = f"class bootstrap {100 * bootstrap.LEVEL:g}%"
    return {
        part: {
            "test_classes": len(labels),
            "test_ci_low": float(low[at]),
            "test_ci_high": float(high[at]),
            "test_ci_kind": kind,
        }
        for at, part in enumerate(PARTS)
    }


def _sums(values: Values) -> tuple[Any, Any, Any]:
    """Return class ids (C,), counted queries (C,) and sums (parts, C), in the order of PARTS."""
    labels = values.labels[values.query]
    rows = []
    for embedding, metric in PARTS:
        found = values.found[metric].astype(np.float64)  # the joined embedding, then the folds
        rows.append(found[0] if embedding == "concatenated" else found[1:].mean(axis=0))
    return bootstrap.sum_by_class(labels, np.array(rows))


def _none(reason: str) -> dict[Part, dict[str, Any]]:
    return {part: {"test_ci_kind": f"none ({reason})"} for part in PARTS}
