"""What stands around a table in words: the sentence above it, and how to read its verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan
from typing import Any

from pandas import NA

from benchmark.statistics.across import KIND
from benchmark.statistics.paired import FIXED, ROPE
from benchmark.statistics.words import is_near_miss, spoken
from benchmark.study.datasets import identity
from benchmark.study.scores import MARKS
from benchmark.tables.bibliography import EVERY
from protocols.protocol import Protocol

Place = tuple[str, str, str]  # dataset, trunk and recipe
FrameRow = Any  # a row of DataFrame.itertuples: its attributes are the columns
# Texts one behind the other, each with whose papers are cited behind it: a method, a dataset,
# EVERY for the protocol's, or empty for nobody's.
Sentence = tuple[tuple[str, str], ...]


def of_place(place: Place, protocol: Protocol, rows: Sequence[FrameRow]) -> Sentence:
    """Return what the table of one dataset, trunk and recipe shows.

    ``rows`` are of ``summary``: the main number of each method that has one.
    """
    spread = "no method has all its runs yet"
    if drawn := [row for row in rows if row.ci_kind != FIXED]:
        seeds = _counted([int(row.n) for row in drawn], "seed", "seeds")
        kinds = sorted({str(row.ci_kind) for row in drawn if not isnan(row.ci_high)})
        interval = f" ± {', '.join(kinds)}" if kinds else ", without interval,"
        spread = f"mean{interval} over {seeds}"
    elif rows:
        spread = "one run each, in which nothing is drawn"
    return (*_on_dataset("P@1, R-Precision and MAP@R", place, protocol), (f": {spread}.", ""))


def of_searches(place: Place, protocol: Protocol, searches: Sequence[int]) -> Sentence:
    """Return what the table of repeated searches shows; ``searches`` says how many, by row."""
    spread = f"mean ± t 95% over {_counted(searches, 'search', 'searches')}"
    what = "MAP@R, and how its spread splits between searches and seeds,"
    return (*_on_dataset(what, place, protocol), (f": {spread}.", ""))


def of_datasets(
    place: tuple[str, ...], datasets: int, protocol: Protocol, *, with_interval: bool
) -> Sentence:
    """Return what the table over several datasets of one trunk and recipe shows."""
    what = f"MAP@R, in per cent, and ranks on test classes of {datasets} datasets"
    seeds = _counted([protocol.seeds], "seed", "seeds")
    spread = f"in brackets {KIND}" if with_interval else "without interval"
    return (
        (f"{what}, of {_trained(place[-2:], protocol)}", EVERY),
        (f": {spread}, over {seeds} a dataset.", ""),
    )


def spoken_of(pair: FrameRow) -> str:
    """Return the verdict of a row of pairs as people read it."""
    needs = None if pair.needs_seeds is NA else int(pair.needs_seeds)
    return spoken(str(pair.verdict), needs, pair.untested or "")


def wider(pair: FrameRow) -> bool:
    """Return whether the family's interval is another than the difference's own."""
    return bool(pair.ci_high_family - pair.ci_high > 5e-5)


def verdict_notes(judged: Sequence[FrameRow]) -> Iterator[str]:
    """Yield what the verdicts of this table are made from and what their marks say."""
    if not judged:
        return
    family = judged[0].family_size
    yield f"verdicts: paired t, Holm over {family} comparison{'s' if family > 1 else ''}"
    if any(wider(pair) for pair in judged):
        of = "simultaneous ± for all of them" if family > 1 else "± of the stricter test"
        yield f"in brackets: the {of}"
    met = {spoken_of(p): p for p in judged}
    words = [
        f"{mark} {said}{f' (margin {100 * ROPE:g} points)' * (word == 'equivalent')}"
        for word, mark in MARKS.items()
        for said, pair in sorted(met.items())
        if pair.verdict == word
    ]
    yield ", ".join(words)
    if any(is_near_miss(p.verdict, p.p_holm) for p in judged):
        yield "p: Holm's, of a near miss"


def _on_dataset(what: str, place: Place, protocol: Protocol) -> Sentence:
    dataset = place[0]
    return (
        (f"{what} on test classes of {dataset}", identity(dataset)),
        (f", in per cent, of {_trained(place[1:], protocol)}", EVERY),
    )


def _trained(place: tuple[str, ...], protocol: Protocol) -> str:
    """Return trunk, recipe and rules."""
    trunk, recipe = place
    rules = f"{protocol.name} v{protocol.version}"
    return f"trunk {trunk} trained with recipe {recipe} under protocol {rules}"


def _counted(numbers: Sequence[int], one: str, many: str) -> str:
    """Return how many there are of something: ``5 seeds``, ``3 to 5 seeds``."""
    low, high = min(numbers), max(numbers)
    return f"{low} to {high} {many}" if high > low else f"{high} {one if high == 1 else many}"
