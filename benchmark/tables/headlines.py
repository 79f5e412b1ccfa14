"""The tables for people as words: a headline for each place, and what goes beyond one.

Only here are fractions multiplied by 100. The frames of :mod:`benchmark.tables.frames` hold more,
and :mod:`benchmark.tables.formats` gives the words a format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pandas import NA

from benchmark.statistics.paired import ROPE
from benchmark.study.scores import HEADLINE, HEADLINE_METRIC, MARKS, NOTHING
from benchmark.tables.frames import Tables, baselines
from protocols.protocol import Protocol, protocol_line

_ENDS = ("", "_ci_low", "_ci_high")

Place = tuple[str, str, str]
Row = Any  # a row of DataFrame.itertuples: its attributes are the columns
Parts = dict[tuple[str, str], Row]  # (embedding, metric) to the row of summary


@dataclass(frozen=True)
class Headline:
    """One table as words: what terminal, Markdown and LaTeX all show.

    Attributes:
        title: dataset, trunk and recipe.
        header: column names.
        rows: cells, best method first.
        caption: the rules the numbers were made under, and how to read them.
    """

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    caption: str


def headlines(tables: Tables) -> list[Headline]:
    """Return the headline of each dataset, trunk and recipe, in the frames' order.

    Methods are sorted by their mean concatenated MAP@R. One whose seeds have not all run shows
    no number yet (the frames have what there is) and stands last.
    """
    methods: dict[Place, dict[str, Parts]] = {}
    for row in tables.summary.itertuples(index=False):
        parts = methods.setdefault(_place(row), {}).setdefault(str(row.method), {})
        parts[str(row.embedding), str(row.metric)] = row
    missing = tables.runs[tables.runs["status"] == "missing"]
    unfinished = {(_place(row), str(row.method)) for row in missing.itertuples(index=False)}
    pairs = tables.pairs[
        (tables.pairs["family"] == "baseline")
        & (tables.pairs["embedding"] == "concatenated")
        & (tables.pairs["metric"] == HEADLINE_METRIC)
    ]
    against = {(_place(row), str(row.method_a)): row for row in pairs.itertuples(index=False)}
    found, of_place = [], baselines(tables.study)
    protocol = tables.study.protocol
    for place, by_method in methods.items():
        done = {m for m, p in by_method.items() if (place, m) not in unfinished and _main(p).n}
        baseline = of_place.get(place)
        differences = {m: against[place, m] for m in done if baseline in done and m != baseline}
        found.append(_headline(place, by_method, done, baseline, differences, protocol))
    return found


def further(tables: Tables) -> list[Headline]:
    """Return the tables across datasets and of repeated searches, as far as there are any."""
    found = []
    for name, make in (("across", _across), ("variance", _variance)):
        frame = getattr(tables, name)
        if not len(frame):
            continue
        main = frame[(frame["embedding"] == "concatenated") & (frame["metric"] == HEADLINE_METRIC)]
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in main.itertuples(index=False):
            place = _place(row) if name == "variance" else (str(row.trunk), str(row.recipe))
            groups.setdefault(place, []).append(row)
        found += [make(place, rows) for place, rows in groups.items()]
    return found


def _headline(
    place: Place,
    methods: dict[str, Parts],
    done: set[str],
    baseline: str | None,
    differences: dict[str, Row],
    protocol: Protocol,
) -> Headline:
    over_classes = any(not math.isnan(_main(methods[m]).test_ci_low) for m in done)

    def order(method: str) -> tuple[float, str]:
        return (-_main(methods[method]).mean if method in done else 1.0, method)

    rows = []
    for method in sorted(methods, key=order):
        name = f"{method} (baseline)" if method == baseline else method
        numbers = _numbers(methods[method]) if method in done else [NOTHING] * 4
        if over_classes:
            numbers.append(_over_classes(_main(methods[method])) if method in done else NOTHING)
        difference = [_difference(differences.get(method))] if baseline else []
        main = _main(methods[method])
        failed = f", {main.failed_runs} failed" if main.failed_runs else ""
        runs = f"{main.n}/{protocol.seeds}{failed}"
        rows.append((name, *numbers, *difference, runs, str(main.trials)))
    notes = _notes([_main(methods[m]) for m in done], differences, len(methods))
    return Headline(
        f"{' · '.join(place)}: test classes, per cent",
        (
            *("Method", "P@1", "R-Precision", "MAP@R", "MAP@R separated"),
            *(["Test classes"] if over_classes else []),
            *([f"vs {baseline}"] if baseline else []),
            *("Runs", "Trials"),
        ),
        rows,
        " · ".join([protocol_line(protocol, place[1]), *notes]),
    )


def _numbers(parts: Parts) -> list[str]:
    separated = parts["separated", HEADLINE_METRIC]
    return [
        f"{100 * parts['concatenated', 'precision_at_1'].mean:.2f}",
        f"{100 * parts['concatenated', 'r_precision'].mean:.2f}",
        _with_half_width(f"{100 * _main(parts).mean:.2f}", _main(parts)),
        _with_half_width(f"{100 * separated.mean:.2f}", separated),
    ]


def _difference(pair: Row | None) -> str:
    if pair is None or not pair.n:
        return NOTHING
    text = _with_half_width(f"{100 * pair.mean_difference:+z.2f}", pair)
    return f"{text} {MARKS.get(pair.verdict, '')}".rstrip()


def _with_half_width(mean: str, row: Row) -> str:
    """Return ``mean`` with the interval's half-width in per cent, alone if there is none."""
    half = (row.ci_high - row.ci_low) / 2
    return mean if math.isnan(half) else f"{mean} ± {100 * half:.2f}"


def _notes(done: list[Row], differences: dict[str, Row], methods: int) -> Iterator[str]:
    """Yield how to read the numbers, as far as the table shows them."""
    if done:
        kinds = ", ".join(sorted({str(row.ci_kind) for row in done}, reverse=True))
        low, high = min(row.n for row in done), max(row.n for row in done)
        yield f"± {kinds}; n = {low}" + (f" to {high}" if high > low else "")
    if classes := sorted({int(row.test_classes) for row in done if row.test_classes is not NA}):
        number = " to ".join(map(str, classes[:: max(1, len(classes) - 1)]))
        yield (
            f"test classes: {done[0].test_ci_kind} of {number} classes, runs and gallery as they "
            "are, not part of the other ±"
        )
    if any(row.trials for row in done):
        yield "conditional on one search"
    met = {str(pair.verdict) for pair in differences.values()}
    if marks := [f"{mark} {word}" for word, mark in MARKS.items() if word in met]:
        yield f"{', '.join(marks)} (margin {100 * ROPE:g} points), no mark inconclusive"
    elif met:
        yield "no difference is conclusive"
    if len(done) < methods:
        yield f"{NOTHING} unfinished or failed"


def _over_classes(row: Row) -> str:
    """Return the half-width in per cent of the interval over test classes."""
    half = (row.test_ci_high - row.test_ci_low) / 2
    return NOTHING if math.isnan(half) else f"± {100 * half:.2f}"


def _across(place: tuple[str, ...], rows: list[Row]) -> Headline:
    """Return methods across datasets, best mean rank first, those without one last."""
    order = sorted(rows, key=lambda row: (math.isnan(row.rank), row.rank, row.method))
    cliques = any(row.cliques for row in rows)
    kinds = sorted({row.ci_kind for row in rows if row.ci_kind}, reverse=True)
    notes = [
        f"in brackets {', '.join(kinds)} of seeds within these datasets, of no other dataset",
        "gain: difference to the baseline at the same seeds; IQM: of its middle half",
        *(["cliques: methods with a number in common are not told apart"] if cliques else []),
        *sorted({row.note for row in rows if row.note}),
    ]
    return Headline(
        f"{' · '.join(place)}: {max(row.datasets for row in rows)} datasets, MAP@R, per cent",
        ("Method", "Rank", "Mean", "Gain", "IQM gain", *(["Cliques"] if cliques else [])),
        [
            (
                str(row.method),
                _bracketed(row.rank, row.rank_ci_low, row.rank_ci_high),
                *(
                    _bracketed(
                        *(100 * getattr(row, f"{n}{end}") for end in _ENDS), sign=n[0] == "g"
                    )
                    for n in ("mean", "gain", "gain_iqm")
                ),
                *([row.cliques or NOTHING] if cliques else []),
            )
            for row in order
        ],
        " · ".join(notes),
    )


def _variance(place: tuple[str, ...], rows: list[Row]) -> Headline:
    """Return how the spread of repeated searches splits, in the frames' order."""
    notes = (
        "mean over searches ± t 95% of the searches' means, not conditional on one search",
        "sd of searches without the seeds' part; share of the variance with its F interval",
    )
    return Headline(
        f"{' · '.join(place)}: repeated searches, MAP@R, per cent",
        ("Method", "Searches", "Runs", "Mean", "sd search", "sd seed", "Share search"),
        [
            (
                *(str(row.method), str(row.searches), str(row.runs)),
                _with_half_width(f"{100 * row.mean:.2f}", row) if row.searches else NOTHING,
                *(_bracketed(100 * value) for value in (row.sd_search, row.sd_seed)),
                _bracketed(
                    *(100 * v for v in (row.share_search, row.share_ci_low, row.share_ci_high)),
                    digits=0,
                ),
            )
            for row in rows
        ],
        " · ".join(notes),
    )


def _bracketed(
    value: float,
    low: float = math.nan,
    high: float = math.nan,
    *,
    sign: bool = False,
    digits: int = 2,
) -> str:
    """Return a number with its interval in brackets, as far as there is one."""
    form = f"{'+z' if sign else ''}.{digits}f"
    if math.isnan(value):
        return NOTHING
    ends = "" if math.isnan(low) else f" ({low:{form}} to {high:{form}})"
    return f"{value:{form}}{ends}"


def _main(parts: Parts) -> Row:
    return parts[HEADLINE]


def _place(row: Row) -> Place:
    return (str(row.dataset), str(row.trunk), str(row.recipe))
