"""The tables for people as words: a headline for each dataset, trunk and recipe.

Fractions become per cent here and in :mod:`benchmark.tables.beyond`. The frames of
:mod:`benchmark.tables.frames` hold more, and :mod:`benchmark.tables.formats` gives the words a
format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pandas import NA

from benchmark.statistics.paired import ALPHA, FIXED, holm
from benchmark.statistics.ranking import Standing, apart, order
from benchmark.statistics.words import is_near_miss
from benchmark.study.folder import stands_aside
from benchmark.study.scores import HEADLINE, MARKS, NOTHING, per_cent
from benchmark.tables.captions import FrameRow, Place, Sentence, of_place, verdict_notes, wider
from benchmark.tables.cautions import cautions
from benchmark.tables.frames import Tables, baseline_names
from benchmark.tables.references import reference_rows
from protocols.protocol import protocol_line

_DAGGER = "†"

Parts = dict[tuple[str, str], FrameRow]  # (embedding, metric) to the row of summary


@dataclass(frozen=True)
class Headline:
    """One table as words: what terminal, Markdown and LaTeX all show.

    Attributes:
        title: dataset, trunk and recipe.
        header: column names.
        rows: cells, best method first.
        caption: the rules the numbers were made under, and how to read them.
        names: the row name of the method of each row, which its first cell begins with; empty for
            a reference row.
        sentence: what a paper says above the table; empty for tables that LaTeX does not get.
    """

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    caption: str
    names: tuple[str, ...] = ()
    sentence: Sentence = ()


@dataclass(frozen=True)
class _Group:
    """The methods of one dataset, trunk and recipe.

    Attributes:
        place: dataset, trunk and recipe.
        parts: numbers by method.
        done: methods whose seeds have all ended, one at least with numbers.
        baseline: its row's name; None where the study has none here.
        references: names of the rows that only show what the trunk can do.
        told: what rows were told beside images and labels, by name.
        asked: how many runs each method has.
        differences: rows of pairs against the baseline, by method.
    """

    place: Place
    parts: Mapping[str, Parts]
    done: frozenset[str]
    baseline: str | None
    references: frozenset[str]
    told: Mapping[str, str]
    asked: Mapping[str, int]
    differences: Mapping[str, FrameRow]

    @property
    def standings(self) -> list[Standing]:
        """Return the methods with numbers: complete ones, best first, then the others."""
        rows = {name: _main(self.parts[name]) for name in self.done}
        return order(
            Standing(name, float(row.mean), int(row.n), int(row.failed_runs))
            for name, row in rows.items()
        )

    @property
    def shown(self) -> list[str]:
        """Return the methods in the table's order.

        Of a trunk with weights, what it can do as it is stands in a block above what was trained;
        what was told more than images and labels stands in a block below.
        """
        ended = [standing.name for standing in self.standings]
        found = [*ended, *sorted(self.parts.keys() - self.done)]
        if self.pretrained:
            found.sort(key=lambda name: name not in self.references)  # keeps the order of each
        return sorted(found, key=lambda name: name in self.told)

    @property
    def pretrained(self) -> bool:
        """Return whether the trunk starts from weights."""
        return "+" in self.place[1]

    def tag(self, method: str) -> str:
        """Return what stands behind a method's name."""
        if method == self.baseline:
            return " (baseline)"
        if method in self.told:
            return f" (told {self.told[method]})"
        return " (frozen)" if self.pretrained and method in self.references else ""

    @property
    def judged(self) -> dict[str, FrameRow]:
        """Return the comparisons that have a verdict."""
        return {m: row for m, row in self.differences.items() if isinstance(row.verdict, str)}

    @property
    def held_back(self) -> list[str]:
        """Return the methods that unequal spread alone keeps from a verdict.

        Student's p under Holm's correction, as if no comparison were marked, would give them one.
        """
        tested = {m: row for m, row in self.judged.items() if row.verdict != "not tested"}
        family = max((row.family_size for row in tested.values()), default=0)
        students = [None if math.isnan(row.p_t) else row.p_t for row in tested.values()]
        adjusted = zip(tested, holm(students, family), strict=True)
        marked = {m for m, row in tested.items() if isinstance(row.mark, str)}
        unsure = {m for m in marked if tested[m].verdict == "inconclusive"}
        return sorted(m for m, p in adjusted if m in unsure and p is not None and p <= ALPHA)


def headlines(tables: Tables) -> list[Headline]:
    """Return the headline of each dataset, trunk and recipe, in the frames' order.

    Methods are sorted by their mean concatenated MAP@R. Those with failed runs follow, outside
    the ranking. One whose seeds have not all run shows no number yet (the frames have what there
    is) and stands last.
    """
    found = cautions(tables)
    return [_headline(group, tables, found.get(group.place, [])) for group in _groups(tables)]


def place_of(row: FrameRow) -> Place:
    """Return a row's dataset, trunk and recipe."""
    return (str(row.dataset), str(row.trunk), str(row.recipe))


def with_half_width(mean: str, row: FrameRow) -> str:
    """Return ``mean`` with the interval's half-width in per cent, alone if there is none."""
    half = (row.ci_high - row.ci_low) / 2
    return mean if math.isnan(half) else f"{mean} ± {per_cent(half)}"


def _groups(tables: Tables) -> Iterator[_Group]:
    methods: dict[Place, dict[str, Parts]] = {}
    for row in tables.summary.itertuples(index=False):
        parts = methods.setdefault(place_of(row), {}).setdefault(str(row.method), {})
        parts[str(row.embedding), str(row.metric)] = row
    missing = tables.runs[tables.runs["status"] == "missing"]
    unfinished = {(place_of(row), str(row.method)) for row in missing.itertuples(index=False)}
    frame = tables.pairs
    main = frame[(frame["embedding"] == HEADLINE[0]) & (frame["metric"] == HEADLINE[1])]
    pairs = {
        (place_of(row), str(row.method_a), str(row.method_b)): row
        for row in main.itertuples(index=False)
    }
    protocol = tables.study.protocol
    of_baseline, keys = baseline_names(tables.study), [cell.key for cell in tables.cells]
    for place, parts_of in methods.items():
        done = frozenset(
            m for m, parts in parts_of.items() if (place, m) not in unfinished and _main(parts).n
        )
        base = of_baseline.get(place)
        differences = {
            m: pairs[place, m, base] for m in done if base in done and (place, m, base) in pairs
        }
        here = [key for key in keys if (key.dataset, key.trunk, key.recipe) == place]
        aside = frozenset(key.row for key in here if stands_aside(key, protocol))
        told = {key.row: key.side for key in here if key.side}
        asked = {key.row: tables.study.runs_asked(key) for key in here}
        yield _Group(place, parts_of, done, base, aside, told, asked, differences)


def _headline(group: _Group, tables: Tables, caveats: list[str]) -> Headline:
    protocol = tables.study.protocol
    notes = [*_notes(group, tables), *caveats]
    over_classes = any(not math.isnan(_main(group.parts[m]).test_ci_low) for m in group.done)
    names, measured = group.shown, [_main(group.parts[m]) for m in sorted(group.done)]
    rows = [_row(group, name, over_classes) for name in names]
    for row in reference_rows(tables.references, group.place[0]):
        rows.append(row.cells(over_classes, bool(group.baseline)))
        names.append("")
        notes.append(row.note)
    return Headline(
        f"{' · '.join(group.place)}: test classes, per cent",
        (
            "Method",
            "P@1",
            "R-Precision",
            "MAP@R",
            "MAP@R separated",
            *(["Test classes"] if over_classes else []),
            *([f"vs {group.baseline}"] if group.baseline else []),
            "Runs",
            "Trials",
        ),
        rows,
        " · ".join([protocol_line(protocol, group.place[1]), *notes]),
        tuple(names),
        of_place(group.place, protocol, measured),
    )


def _row(group: _Group, method: str, over_classes: bool) -> tuple[str, ...]:
    parts, done = group.parts[method], method in group.done
    numbers = _numbers(parts) if done else [NOTHING] * 4
    if over_classes:
        numbers.append(_over_classes(_main(parts)) if done else NOTHING)
    main = _main(parts)
    failed = f", {main.failed_runs} failed" if main.failed_runs else ""
    return (
        method + group.tag(method),
        *numbers,
        *([_difference(group, method)] if group.baseline else []),
        f"{main.n}/{group.asked[method]}{failed}",
        _trials(main),
    )


def _trials(main: FrameRow) -> str:
    """Return how many trials a search made, how many the machine lost and the method failed."""
    parts = ((main.lost_trials, "lost"), (main.failed_trials, "failed"))
    return ", ".join([str(main.trials), *(f"{count} {word}" for count, word in parts if count)])


def _numbers(parts: Parts) -> list[str]:
    separated = parts["separated", HEADLINE[1]]
    return [
        per_cent(parts[HEADLINE[0], "precision_at_1"].mean),
        per_cent(parts[HEADLINE[0], "r_precision"].mean),
        with_half_width(per_cent(_main(parts).mean), _main(parts)),
        with_half_width(per_cent(separated.mean), separated),
    ]


def _difference(group: _Group, method: str) -> str:
    """Return a difference, its intervals alone and within the family, and the verdict's mark."""
    pair = group.differences.get(method)
    if pair is None or not pair.n:
        return NOTHING
    text = with_half_width(per_cent(pair.mean_difference, sign="+"), pair)
    if not isinstance(pair.verdict, str):
        return text
    text += f" {MARKS[pair.verdict]}"
    if is_near_miss(pair.verdict, pair.p_holm):
        text += f" p {pair.p_holm:.2f}"
    if isinstance(pair.mark, str):
        text += f" {_DAGGER}"
    if wider(pair):
        text += f" (± {per_cent((pair.ci_high_family - pair.ci_low_family) / 2)})"
    return text


def _notes(group: _Group, tables: Tables) -> Iterator[str]:
    """Yield how to read the numbers, as far as the table shows them."""
    done = [_main(group.parts[m]) for m in group.done]
    if single := sorted(m for m in group.done if _main(group.parts[m]).ci_kind == FIXED):
        yield f"{FIXED}, one run: {', '.join(single)}"
    if drawn := [row for row in done if row.ci_kind != FIXED]:
        kinds = ", ".join(sorted({str(row.ci_kind) for row in drawn}, reverse=True))
        low, high = min(row.n for row in drawn), max(row.n for row in drawn)
        yield f"± {kinds}; n = {low}" + (f" to {high}" if high > low else "")
    if classes := sorted({int(row.test_classes) for row in done if row.test_classes is not NA}):
        number = " to ".join(map(str, classes[:: max(1, len(classes) - 1)]))
        kind = next(row.test_ci_kind for row in done if row.test_classes is not NA)
        yield (
            f"test classes: {kind} over {number} classes, with runs and gallery "
            "fixed; separate from the other ±"
        )
    if any(row.trials for row in done):
        yield "conditional on one search: its luck is not in the ±"
    if any(_main(parts).lost_trials for parts in group.parts.values()):
        score = per_cent(tables.study.protocol.search.failed_score, 0)
        yield f"lost: trials lost to the machine, counted as {score}"
    yield from verdict_notes(list(group.judged.values()))
    if any(isinstance(pair.mark, str) for pair in group.judged.values()):
        held = f", which alone holds back {', '.join(found)}" if (found := group.held_back) else ""
        yield f"{_DAGGER} spreads too unequal for Student's t: judged by a stricter test{held}"
    if group.judged and (looks := tables.looks.sentence()):
        yield looks
    yield from _reference_note(group)
    if group.told:
        yield (
            f"told: {', '.join(sorted(group.told))} saw that of the training classes beside images "
            "and labels, in a block of its own and outside the family"
        )
    standings = group.standings
    yield from (apart(standing, standings) for standing in standings if standing.failed)
    if len(done) < len(group.parts):
        yield f"{NOTHING} unfinished or failed"


def _reference_note(group: _Group) -> Iterator[str]:
    """Yield whether everything that trains is above the best row that leaves the trunk alone."""
    means = {m: _main(group.parts[m]).mean for m in group.done}
    others = means.keys() - group.references
    there = sorted(means.keys() & group.references, key=lambda m: (-means[m], m))
    if not others or not there:
        return
    below = sorted(m for m in others if means[m] <= means[there[0]])
    said = f"not below {', '.join(below)}" if below else "below all others"
    best = f"best of {len(there)} rows on the untrained trunk"
    what = best if len(there) > 1 else "reference"
    yield f"{there[0]}: {what}, not in the family of tests, {said}"


def _over_classes(row: FrameRow) -> str:
    """Return the half-width in per cent of the interval over test classes."""
    half = (row.test_ci_high - row.test_ci_low) / 2
    return NOTHING if math.isnan(half) else f"± {per_cent(half)}"


def _main(parts: Parts) -> FrameRow:
    return parts[HEADLINE]
