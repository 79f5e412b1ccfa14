"""Reference rows as a frame: models that were not trained here, on the study's test images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.statistics import bootstrap
from benchmark.study import references
from benchmark.study.folder import Study
from benchmark.study.references import Reference
from benchmark.study.scores import HEADLINE_METRIC, NOTHING, per_cent
from protocols.metrics import METRICS

COLUMNS = {
    "dataset": "object",
    "name": "object",
    "metric": "object",
    "value": "float64",
    "test_classes": "Int64",
    "test_ci_low": "float64",
    "test_ci_high": "float64",
    "test_ci_kind": "object",
    "excluded": "Int64",
    "ties": "Int64",
    "size": "Int64",
    "compare": "object",
    "file": "object",
    "file_sha256": "object",
}


@dataclass(frozen=True)
class ReferenceRow:
    """A model that was not trained here, on the test images of a table; never ranked.

    Attributes:
        name: of the row.
        numbers: by metric, in per cent.
        over_classes: half-width of MAP@R's interval over test classes, in per cent.
        note: what it is, for the caption.
    """

    name: str
    numbers: dict[str, str]
    over_classes: str
    note: str

    def cells(self, over_classes: bool, compared: bool) -> tuple[str, ...]:
        """Return the row of a headline that has a column of test classes and one of differences.

        What only a training has (folds apart, difference, runs, trials) it has not.
        """
        numbers = [self.numbers[metric] for metric in METRICS]
        classes = [self.over_classes] if over_classes else []
        return (
            f"{self.name} (reference)",
            *numbers,
            NOTHING,
            *classes,
            *[NOTHING] * (2 + compared),
        )


def reference_rows(frame: pd.DataFrame, dataset: str) -> Iterator[ReferenceRow]:
    """Yield the reference rows of a dataset, by name."""
    here = frame[frame["dataset"] == dataset] if len(frame) else frame
    for name, rows in here.groupby("name") if len(here) else ():
        by_metric = {str(row.metric): row for row in rows.itertuples(index=False)}
        main = by_metric[HEADLINE_METRIC]
        yield ReferenceRow(
            str(name),
            {metric: per_cent(float(row.value)) for metric, row in by_metric.items()},  # type: ignore[arg-type]
            _half_width(float(main.test_ci_low), float(main.test_ci_high)),  # type: ignore[arg-type]
            f"{name}: reference measured from {main.file}, not trained here, not ranked",
        )


def _half_width(low: float, high: float) -> str:
    return NOTHING if math.isnan(high - low) else f"± {per_cent((high - low) / 2)}"


def frame(study: Study) -> pd.DataFrame:
    """Return one row for each reference row and metric; empty where a study has none.

    A reference has no interval over seeds and no difference: nothing here retrained it.

    Raises:
        StoreError: a reference's file is damaged.
    """
    titles = {cell.axes[0]: cell.dataset for cell in study.cells}
    rows = [row for found in references.read(study) for row in _rows(found, titles[found.dataset])]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).astype(COLUMNS)


def _rows(found: Reference, dataset: str) -> Iterator[dict[str, Any]]:
    names = list(found.sums)
    classes = len(found.labels)
    low, high = dict.fromkeys(names), dict.fromkeys(names)
    kind = f"none (classes < {bootstrap.MIN_CLASSES})"
    if classes >= bootstrap.MIN_CLASSES:
        # the very classes that the study's own rows are resampled with
        drawn = bootstrap.draw_classes(dataset, classes)
        sums = np.array([found.sums[name] for name in names])
        means = bootstrap.class_means(drawn, sums, np.array(found.counts))
        ends = bootstrap.scores_over_classes(means, classes)
        low, high = (dict(zip(names, end.tolist(), strict=True)) for end in ends)
        kind = f"class bootstrap {100 * bootstrap.LEVEL:g}%"
    for metric, value in found.metrics.items():
        yield {
            "dataset": dataset,
            "name": found.name,
            "metric": metric,
            "value": value,
            "test_classes": classes if metric in low else None,
            "test_ci_low": low.get(metric),
            "test_ci_high": high.get(metric),
            "test_ci_kind": kind if metric in low else "none (reported alone)",
            **{word: getattr(found, word) for word in list(COLUMNS)[8:]},
        }
