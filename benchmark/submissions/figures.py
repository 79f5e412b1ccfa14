"""What a run's figures say that cannot be true together, whatever was trained.

These hold for means over queries, so they need no per-query values; with those
:mod:`benchmark.submissions.recompute` looks closer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean

from benchmark.submissions.schema import Cell, Run, Scores
from protocols.metrics import AVERAGED
from protocols.verification import FARS, HIGHEST_OPIS

# how far MAP@R may be above R-precision by rounding: they are equal if hits come first
NEXT_TO_EQUAL = 1e-12
_WHOLE = 1e-6  # a mean of zeros and ones times their number is this close to a whole number


def faults(run: Run, cell: Cell, queries: int | None) -> Iterator[str]:
    """Yield what cannot be true of a run.

    Args:
        run: the run.
        cell: its cell.
        queries: how many test queries it had; None where that is not known for sure.
    """
    folds, parts = cell.rules["folds"], (run.separated, run.concatenated, run.validation)
    told = (*parts, run.embeddings_sha256, run.embeddings_shape, run.queries_sha256, run.excluded)
    if run.status == "failed":
        if run.reason is None or any(value is not None for value in told):
            yield "failed, but without a reason or with scores"
        return
    if run.reason is not None or any(value is None for value in (*told, *run.folds)):
        yield "done, but with a reason or without scores"
        return
    if len(run.folds) != folds or len(run.best_steps) != folds:
        yield f"{len(run.folds)} folds, the protocol has {folds}"
    elif run.openings != len(run.folds) + 1:
        yield f"test data opened {run.openings} times; expected once a fold and once to join"
    yield from _scores(run)
    shape, excluded = run.embeddings_shape or [], run.excluded or 0
    if len(shape) != 2 or 0 in shape:
        yield f"embeddings_shape {shape}: expected images, width"
    elif excluded >= shape[0]:
        yield f"{excluded} of {shape[0]} queries excluded"
    elif queries and (wrong := list(_counted(run, queries - excluded))):
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        yield f"{wrong[0]} is no multiple of 1/{queries - excluded}{more}"


def is_whole(count: float) -> bool:
    """Return whether a mean of zeros and ones times their number is a count."""
    return abs(count - round(count)) <= _WHOLE


def _scores(run: Run) -> Iterator[str]:
    """Yield metrics that contradict one another."""
    for scores in (*run.folds, run.separated, run.concatenated, run.validation):
        if scores and scores.map_at_r > scores.r_precision + NEXT_TO_EQUAL:
            yield f"map_at_r {scores.map_at_r} above r_precision {scores.r_precision}"
        if scores:
            yield from _recalls(scores)
            yield from _thresholds(scores)
    tested = [scores for scores in (*run.folds, run.separated) if scores]
    if len({frozenset(scores.reported) for scores in tested}) > 1:
        yield "folds and separated do not report the same metrics"
        return
    separated = [fold for fold in run.folds if fold]
    for name in (*Scores.model_fields, *separated[0].reported) if separated else ():
        mean = fmean(getattr(fold, name) for fold in separated)
        if getattr(run.separated, name) != mean:
            yield f"separated.{name} is not the mean {mean} of its folds"


def _recalls(scores: Scores) -> Iterator[str]:
    """Yield recalls that fall as k rises, or that the other metrics contradict."""
    recalls, p1 = scores.recalls, scores.precision_at_1
    for (k, low), (above, high) in pairwise(recalls.items()):
        if high < low:
            yield f"recall_at_{above} {high} below recall_at_{k} {low}"
    if recalls.get(1, p1) != p1:
        yield f"recall_at_1 {recalls[1]}, precision_at_1 {p1}: they are one"
    if any(high < p1 for high in recalls.values()):
        yield f"precision_at_1 {p1} above a recall"
    ten = scores.reported.get("map_at_10")
    if ten is None:
        return
    # A first neighbour that hits counts 1 of the 10 or fewer terms that are averaged.
    if ten < p1 / AVERAGED - NEXT_TO_EQUAL:
        yield f"map_at_10 {ten} below a tenth of precision_at_1 {p1}"
    if any(ten > r + NEXT_TO_EQUAL for k, r in recalls.items() if k >= AVERAGED):
        yield f"map_at_10 {ten} above the recall at {AVERAGED} or more"


def _thresholds(scores: Scores) -> Iterator[str]:
    """Yield what no set of pairs gives: more accepted at a lower FAR, too large a variance."""
    named = [(far, scores.reported.get(f"tar_at_far_{far}")) for far in FARS]
    known = [(far, tar) for far, tar in named if tar is not None]
    for (far, tar), (below, lower) in pairwise(known):
        if lower > tar:
            yield f"tar_at_far_{below} {lower} above tar_at_far_{far} {tar}"
    opis = scores.reported.get("opis", 0.0)
    if opis > HIGHEST_OPIS:
        yield f"opis {opis}: a variance of fractions is {HIGHEST_OPIS} at most"


def _counted(run: Run, queries: int) -> Iterator[str]:
    """Yield metrics that count queries and are no multiple of 1 / ``queries``."""
    for what, scores in (("concatenated", run.concatenated), *_numbered(run)):
        counts = {"precision_at_1": scores.precision_at_1} if scores else {}
        counts |= {f"recall_at_{k}": v for k, v in (scores.recalls if scores else {}).items()}
        for name, value in counts.items():
            if not is_whole(value * queries):
                yield f"{what}.{name} {value}"


def _numbered(run: Run) -> Iterator[tuple[str, Scores | None]]:
    for number, scores in enumerate(run.folds):
        yield f"folds.{number}", scores
