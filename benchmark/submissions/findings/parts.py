"""A study's findings as parts: a heading, sentences and a table of words each, in any form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.statistics.words import spoken
from benchmark.study.scores import MARKS, NOTHING, per_cent
from benchmark.submissions.findings import chosen, cost, said
from benchmark.submissions.findings.spread import Gap, Spread, gaps, spreads
from benchmark.submissions.findings.standing import Standing, by_verdict, standing
from benchmark.submissions.findings.studies import Study
from protocols.space import Setting

Row = tuple[str, ...]
_SIDES = {"lower": "low", "upper": "up"}


@dataclass(frozen=True)
class Part:
    """One finding.

    Attributes:
        slug: its name in addresses.
        heading: what it is about.
        said: in words, empty for nothing.
        header: names of the columns; the first ``words`` of them hold words, the others numbers.
        rows: the cells.
        note: how to read them.
    """

    slug: str
    heading: str
    said: str
    header: Row
    rows: tuple[Row, ...]
    note: str = ""
    words: int = 1


def parts(study: Study) -> list[Part]:
    """Return what was found, part by part; what nothing is known of is left out."""
    every = (
        _verdicts(study),
        _across(study),
        _moved(study),
        _oracle(study),
        _settings(study),
        _costs(study),
    )
    return [part for part in every if part.rows or part.said]


def _verdicts(study: Study) -> Part:
    rows = [
        (name, *(", ".join(own) or NOTHING for own in by_verdict(study, name).values()))
        for name in study.datasets
    ]
    asked = sorted(
        f"{entry.method} on {entry.cell.dataset} {spoken('not tested', entry.head['needs_seeds'])}"
        for entry in study.compared
        if entry.head["needs_seeds"]
    )
    return Part(
        "verdicts",
        f"Against {study.baseline}, dataset by dataset",
        f"{'; '.join(asked)}." if asked else "",
        ("dataset", *MARKS),
        tuple(rows),
        words=1 + len(MARKS),
    )


def _across(study: Study) -> Part:
    own = [line for line in standing(study) if line.across.get("mean") is not None]
    notes = sorted({line.across["note"] for line in own if line.rank and line.across["note"]})
    note = "In brackets 95 % intervals over seeds within these datasets; they speak of no other"
    return Part(
        "ranks",
        "Across the datasets",
        "",
        ("method", "mean rank", "mean MAP@R, %", "gain over the baseline", "interquartile gain"),
        tuple(
            (
                line.method,
                _ends(line, "rank", scale=1),
                _ends(line, "mean"),
                *(
                    NOTHING if line.method == study.baseline else _ends(line, name)
                    for name in ("gain", "gain_iqm")
                ),
            )
            for line in own
        ),
        ". ".join((note, *(f"{n[0].upper()}{n[1:]}" for n in notes))) + ".",
    )


def _moved(study: Study) -> Part:
    again = [own for own in spreads(study) if own.searches > 1]
    none = " No row was searched more than once." if said.moved(study) and not again else ""
    return Part(
        "spread",
        "What moves a row",
        f"{said.moved(study)}{none}",
        (
            "method",
            "dataset",
            "searches",
            "another search",
            "another seed",
            "other test classes",
            "share of the search",
        ),
        tuple((own.method, own.dataset, str(own.searches), *_moves(own)) for own in again),
        "± points that hold 95 of 100: 1.96 standard deviations between searches, the seeds' part "
        "taken out, and between seeds; half of the interval over test classes. Share: of the "
        "variance of single runs, with its 95 % interval."
        if again
        else "",
        words=2,
    )


def _oracle(study: Study) -> Part:
    return Part(
        "oracle",
        "What choosing on test would have claimed",
        said.oracle(study),
        ("method", "dataset", "runs", "selected by validation", "by test", "claimed in excess"),
        tuple((o.method, o.dataset, str(o.gap.n), *_gap(o)) for o in gaps(study)),
        "MAP@R of separated embeddings, per cent; ± t 95 % over the runs.",
        words=2,
    )


def _settings(study: Study) -> Part:
    names = study.datasets
    rows = [
        (
            line.method,
            line.name,
            line.common or NOTHING,
            _short(line.default),
            line.searched,
            *(_value(line.chosen.get(name)) for name in names),
        )
        for line in chosen.lines(study)
    ]
    return Part(
        "settings",
        "What the searches chose",
        said.searching(study),
        ("method", "setting", "in common", "default", "searched", *names),
        tuple(rows),
        "(low), (up): on that bound of the range.",
        words=3,
    )


def _costs(study: Study) -> Part:
    every = cost.costs(study)
    best = ", ".join(own.method for own in every if own.best_value)
    return Part(
        "cost",
        "Cost and quality",
        f"No other method scores as much for less training: {best}." if best else "",
        ("method", "mean MAP@R, %", "training a run, s", "memory, MB", "all trainings, h"),
        tuple(
            (
                own.method,
                per_cent(own.mean),
                f"{own.run_s:.1f}",
                str(own.peak_memory_mb),
                f"{own.hours:.2f}",
            )
            for own in every
        ),
        "Seconds of all folds of a run, the median over runs, on the machines that the rows name. "
        "Memory is the most that a run took, with all that Python and torch hold.",
    )


def _ends(line: Standing, name: str, scale: float = 100) -> str:
    value, low, high = (line.across.get(f"{name}{end}") for end in ("", "_ci_low", "_ci_high"))
    if value is None:
        return NOTHING
    form = "+z.2f" if name.startswith("gain") else ".2f"
    ends = ""
    if low is not None and high is not None:
        ends = f" ({scale * low:{form}} to {scale * high:{form}})"
    return f"{scale * value:{form}}{ends}"


def _moves(own: Spread) -> Iterator[str]:
    for value in (own.search, own.seed, own.classes):
        yield NOTHING if value is None else f"±{per_cent(value)}"
    if own.share is None:
        yield NOTHING
        return
    value, low, high = own.share
    ends = "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f})"
    yield f"{100 * value:.0f} %{ends}"


def _gap(own: Gap) -> Row:
    gap = own.gap
    half = "" if gap.low is None or gap.mean is None else f" ± {per_cent(gap.mean - gap.low)}"
    return per_cent(own.selected), per_cent(own.claimed), f"{per_cent(gap.mean)}{half}"


def _value(value: chosen.Value | None) -> str:
    if value is None:
        return NOTHING
    return f"{_short(value.value)}{f' ({_SIDES.get(value.edge, value.edge)})' * bool(value.edge)}"


def _short(value: Setting) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
