"""A run's scores: which there are, which of them heads every table, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import product

from protocols.metrics import METRICS

Part = tuple[str, str]  # embedding, metric

EMBEDDINGS = ("separated", "concatenated")
PARTS: tuple[Part, ...] = tuple(product(EMBEDDINGS, METRICS))
HEADLINE_METRIC = "map_at_r"
HEADLINE: Part = ("concatenated", HEADLINE_METRIC)

LABELS = {
    "map_at_r": "MAP@R",
    "precision_at_1": "P@1",
    "r_precision": "R-Precision",
    "map_at_10": "MAP@10",
    "opis": "OPIS",
}
_RECALL, _TAR = "recall_at_", "tar_at_far_"
NOTHING = "–"  # printed where there is no number
MARKS = {"better": "▲", "worse": "▼", "equivalent": "=", "inconclusive": "~", "not tested": "?"}


def label_of(metric: str) -> str:
    """Return a metric's name for people."""
    if metric.startswith(_RECALL):
        return f"R@{metric.removeprefix(_RECALL)}"
    if metric.startswith(_TAR):
        return f"TAR@{metric.removeprefix(_TAR)}"
    return LABELS.get(metric, metric)


def reported_alone(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``metrics`` that are shown and not compared: recalls by k, then the rest."""
    names = set(metrics) - set(METRICS)
    recalls = {name for name in names if name.startswith(_RECALL)}
    by_k = sorted(recalls, key=lambda name: int(name.removeprefix(_RECALL)))
    return (*by_k, *sorted(names - recalls))


def per_cent(fraction: float | None, digits: int = 2, sign: str = "") -> str:
    """Return a fraction in per cent, or a dash where it is None or NaN.

    ``sign`` "+" puts a plus before what is not negative, for differences; what rounds to 0 is
    never printed as -0.
    """
    if fraction is None or math.isnan(fraction):
        return NOTHING
    return f"{100 * fraction:{sign}z.{digits}f}"
