"""A study's findings as parts: a heading, sentences and a table of words each, in any form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.statistics.words import spoken
from benchmark.study.scores import MARKS, NOTHING, per_cent
from benchmark.submissions.findings import chosen, cost, said, training
from benchmark.submissions.findings.places import Place, by_verdict
from benchmark.submissions.findings.spread import Gap, Spread, gaps, spreads
from benchmark.submissions.findings.studies import Study
from benchmark.submissions.took import MEASURES
from benchmark.tables.diagnostics import EDGE
from protocols.names import one_line
from protocols.space import Setting

Row = tuple[str, ...]
_SIDES = {"lower": "low", "upper": "up"}
_STRICTER = " ‡"
_LONGEST = 40  # characters of an option's text


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


def parts(study: Study, own: Sequence[Place]) -> list[Part]:
    """Return what was found, part by part; what nothing is known of is left out.

    Args:
        study: the study.
        own: its methods in their order.
    """
    every = (
        _trained(study),
        _verdicts(study),
        _across(study, own),
        _moved(study),
        _oracle(study),
        _settings(study),
        _costs(study),
    )
    return [part for part in every if part.rows or part.said]


def _trained(study: Study) -> Part:
    return Part(
        "training",
        training.HEADING,
        training.said(study),
        training.HEADER,
        tuple(training.rows(study)),
        training.note(study),
        words=2,
    )


def _verdicts(study: Study) -> Part:
    marked = {(e.cell.dataset, e.method) for e in study.compared if e.head["mark"]}
    rows = [
        (
            dataset,
            *(
                ", ".join(f"{name}{_STRICTER * ((dataset, name) in marked)}" for name in own)
                or NOTHING
                for own in by_verdict(study, dataset).values()
            ),
        )
        for dataset in study.datasets
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
        f"{_STRICTER.strip()}: spreads too different for Student's t, judged by a stricter test."
        if marked
        else "",
        words=1 + len(MARKS),
    )


def _across(study: Study, every: Sequence[Place]) -> Part:
    own = [place for place in every if place.across.get("mean") is not None]
    grouped = any(place.across["cliques"] for place in own)
    columns = ("method", "mean rank", "mean MAP@R, %", "gain over the baseline")
    return Part(
        "ranks",
        "Across the datasets",
        " ".join(filter(None, (said.below_references(study), said.of_several_codes(study)))),
        (*columns, "interquartile gain", *(["not told apart"] if grouped else [])),
        tuple(
            (
                place.method,
                _ends(place, "rank", scale=1),
                _ends(place, "mean"),
                *(
                    NOTHING if place.method == study.baseline else _ends(place, name)
                    for name in ("gain", "gain_iqm")
                ),
                *([place.across["cliques"] or NOTHING] if grouped else []),
            )
            for place in own
        ),
        " ".join(_notes_of_ranks(every, grouped=grouped)),
    )


def _notes_of_ranks(every: Sequence[Place], *, grouped: bool) -> Iterator[str]:
    yield (
        "In brackets: 95 % intervals over seeds, for these datasets only. That of a rank is where "
        "95 % of resamples of the seeds put it; near ties it covers the true rank less often. A "
        "gain is a mean over datasets, so the one with the largest differences weighs most; in a "
        "rank all weigh the same."
    )
    if grouped:
        yield "Methods with a number in common are not told apart (Wilcoxon over datasets, Holm)."
    for note in sorted({p.across["note"] for p in every if p.rank and p.across["note"]}):
        yield f"{note[0].upper()}{note[1:]}."
    without = [f"{p.method} ({p.across['note']})" for p in every if p.competes and not p.rank]
    if without:
        yield f"Without a rank: {', '.join(without)}."


def _moved(study: Study) -> Part:
    again = [own for own in spreads(study) if own.searches > 1]
    return Part(
        "spread",
        "What moves a number",
        said.moved(study),
        (
            "method",
            "dataset",
            "searches",
            "runs",
            "sd between searches",
            "sd between seeds",
            "row's mean",
            "other test classes",
            "share of the search",
            "mean over searches, %",
        ),
        tuple((own.method, own.dataset, str(own.searches), *_moves(own)) for own in again),
        "In points. Standard deviations are of single runs; the one between searches is net of "
        "what seeds contribute, in brackets the bounds that follow from the 95 % interval of its "
        "share of the variance. ±: half of a 95 % interval, over seeds, over test classes and, in "
        "the last column, over searches; only the last is not conditional on one search. Runs: "
        "finished, of all."
        if again
        else "",
        words=2,
    )


def _oracle(study: Study) -> Part:
    return Part(
        "oracle",
        "What choosing the epoch on test would have claimed",
        said.oracle(study),
        ("method", "dataset", "runs", "selected by validation", "by test", "claimed in excess"),
        tuple((o.method, o.dataset, str(o.gap.n), *_gap(o)) for o in gaps(study)),
        "MAP@R of separated embeddings, per cent; ± t 95 % over the runs.",
        words=2,
    )


def _settings(study: Study) -> Part:
    names, found = study.datasets, list(chosen.lines(study))
    rows = [
        (
            line.method,
            line.name,
            line.common or NOTHING,
            _short(line.default),
            line.searched,
            *(", ".join(map(_value, line.chosen.get(name, ()))) or NOTHING for name in names),
        )
        for line in found
    ]
    return Part(
        "settings",
        "What the searches chose",
        said.searching(study),
        ("method", "setting", "in common", "default", "searched", *names),
        tuple(rows),
        f"(low), (up): within {100 * EDGE:.0f} % of that bound of the range."
        + " Where a row was searched more than once, its own choice comes first."
        * any(len(own) > 1 for line in found for own in line.chosen.values()),
        words=3,
    )


def _costs(study: Study) -> Part:
    every, measure = cost.costs(study), cost.measure_of(study)
    if measure is None:
        return Part("cost", "Cost and quality", "", (), ())
    unit = MEASURES[measure]
    best = ", ".join(own.method for own in every if own.on_front)
    return Part(
        "cost",
        "Cost and quality",
        "On the Pareto front of mean MAP@R against training cost (by means alone; differences are "
        f"not tested): {best}."
        if best
        else "",
        ("method", "mean MAP@R, %", f"a training, {unit} s", f"all trainings, {unit} h"),
        tuple(
            (
                own.method,
                per_cent(own.mean),
                f"{own.training_s:.2f}",
                f"{own.hours:.2f}",
            )
            for own in every
        ),
        " ".join(_notes_of_costs(study)),
    )


def _notes_of_costs(study: Study) -> Iterator[str]:
    yield (
        "Seconds of one network, with its validations: the mean over search and runs of all "
        "datasets. Off the front is what a method on it beats: by a higher mean for at most "
        f"{100 * cost.ALIKE:.0f} % more seconds. Methods without a whole row on every dataset are "
        "left out."
    )
    for note in sorted({note for e in study.entries if (note := e.head["machines"])}):
        yield f"{note[0].upper()}{note[1:]}."


def _ends(place: Place, name: str, scale: float = 100) -> str:
    value, low, high = (place.across.get(f"{name}{end}") for end in ("", "_ci_low", "_ci_high"))
    if value is None:
        return NOTHING
    form = "+z.2f" if name.startswith("gain") else ".2f"
    ends = ""
    if low is not None and high is not None:
        ends = f" ({scale * low:{form}} to {scale * high:{form}})"
    return f"{scale * value:{form}}{ends}"


def _moves(own: Spread) -> Iterator[str]:
    yield f"{sum(map(len, own.groups))}/{own.searches * own.asked}"
    sd, low, high = own.search or (None, None, None)
    ends = "" if low is None else f" ({per_cent(low)} to {per_cent(high)})"
    yield f"{per_cent(sd)}{ends}"
    yield per_cent(own.seed)
    for half in (own.mean, own.classes):
        yield NOTHING if half is None else f"±{per_cent(half)}"
    value, low, high = own.share or (None, None, None)
    ends = "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f})"
    yield NOTHING if value is None else f"{100 * value:.0f} %{ends}"
    over = own.over
    spread = "" if over.mean is None or over.low is None else f" ±{per_cent(over.mean - over.low)}"
    yield f"{per_cent(over.mean)}{spread}"


def _gap(own: Gap) -> Row:
    gap = own.gap
    half = "" if gap.low is None or gap.mean is None else f" ± {per_cent(gap.mean - gap.low)}"
    if gap.alike:
        half = f", all {gap.n} alike"
    return per_cent(own.selected), per_cent(own.claimed), f"{per_cent(gap.mean)}{half}"


def _value(value: chosen.Value) -> str:
    side = f" ({_SIDES[value.edge]})" if value.edge else ""
    return f"{_short(value.value)}{side}"


def _short(value: Setting) -> str:
    return f"{value:.3g}" if isinstance(value, float) else one_line(str(value))[:_LONGEST]
