"""All that is shown of one dataset, trunk and recipe, in one value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.report import curves, gallery, searches
from benchmark.report.agreement import Agreement, agreement
from benchmark.report.charts import (
    Axis,
    Mark,
    Plot,
    Point,
    Scatter,
    focused,
    number,
    place_labels,
    spanning,
)
from benchmark.report.rows import MethodRow, Pair, Place, pairs, rows
from benchmark.statistics import paired
from benchmark.statistics.ranking import Standing, apart
from benchmark.statistics.verdicts import VERDICTS
from benchmark.study.folder import Study
from benchmark.study.scores import HEADLINE_METRIC, NOTHING, label_of
from benchmark.tables.frames import Tables
from protocols.verification import names as of_pairs

ROPE = 100 * paired.ROPE  # points

_MAIN = label_of(HEADLINE_METRIC)
SHOWN_METRICS = (HEADLINE_METRIC, "precision_at_1", "r_precision")
MAX_PAIRS = 60  # comparisons shown of one place
MAX_PANELS = 120  # charts of one kind in a report
MAX_TRAININGS = 4_000  # read for learning curves
MAX_GALLERIES = 12  # comparisons with pictures in a report


@dataclass(frozen=True)
class Section:
    """What is shown of one dataset, trunk and recipe.

    Attributes:
        number: from 1.
        selection_metric: what decided epochs and trials.
        rows: its methods, best first.
        axis, pair_axis: of the interval charts.
        pairs: declared comparisons.
        learning, by_trial, by_seconds: curves of the best methods and the baseline.
        searches: what was searched by those.
        costs: MAP@R against what it takes.
        agreement: of validation and test.
        gallery: pictures.
    """

    number: int
    place: Place
    selection_metric: str
    rows: Sequence[MethodRow]
    axis: Axis
    pairs: Sequence[Pair]
    pair_axis: Axis
    learning: curves.Learning
    by_trial: tuple[Plot, ...]
    by_seconds: tuple[Plot, ...]
    searches: Sequence[searches.MethodSearch]
    costs: tuple[Scatter, ...]
    agreement: Agreement
    gallery: gallery.Gallery

    @property
    def finished(self) -> list[MethodRow]:
        """Return the methods with numbers, best first."""
        return [row for row in self.rows if row.scores]

    @property
    def table(self) -> list[MethodRow]:
        """Return the rows as the table has them.

        Of a trunk with weights, what it can do as it is stands in a block above what was trained;
        what was told more than images and labels stands in a block below.
        """
        above = "reference" if "+" in self.place[1] else None
        return sorted(self.rows, key=lambda row: (bool(row.key.side), row.role != above))

    @property
    def references(self) -> list[str]:
        """Return the names of rows that only show what the trunk can do."""
        return [row.name for row in self.rows if row.role == "reference"]

    @property
    def told(self) -> list[str]:
        """Return the names of rows that were told more than images and labels."""
        return [row.name for row in self.rows if row.key.side]

    @property
    def best_untrained(self) -> MethodRow | None:
        """Return the best of them where the trunk has weights."""
        there = [row for row in self.finished if row.role == "reference"]
        return there[0] if there and "+" in self.place[1] else None

    @property
    def below_it(self) -> list[str]:
        """Return the trained rows that do not lie above the best of those."""
        best = self.best_untrained
        bar = best.main.mean if best and best.main else -1.0
        others = [row for row in self.finished if row.role != "reference" and row.main]
        return [row.name for row in others if row.main and row.main.mean <= bar]

    @property
    def verdicts(self) -> dict[str, list[Pair]]:
        """Return the comparisons of the family by verdict."""
        return {word: [p for p in self.pairs if p.verdict == word] for word in VERDICTS}

    @property
    def apart(self) -> list[str]:
        """Return what failed runs would have to score, for each method that has some."""
        standings = [
            Standing(row.name, row.main.mean / 100, len(row.done), len(row.failed))
            for row in self.finished
            if row.main
        ]
        return [apart(standing, standings) for standing in standings if standing.failed]

    @property
    def heading(self) -> str:
        """Return which method has the highest mean."""
        best = next((row for row in self.finished if not row.key.side), None)
        if best is None or best.main is None:
            return "No method has finished yet"
        return f"{best.name} has the highest mean {_MAIN}: {number(best.main.mean)} %"

    @property
    def interval_kinds(self) -> str:
        """Return how the intervals of the means were made."""
        kinds = sorted({row.kind for row in self.finished}, reverse=True)
        return ", ".join(kinds) or "none yet"

    @property
    def most_runs(self) -> int:
        """Return the runs of the method that has most, 0 without any."""
        return max((len(row.done) for row in self.finished), default=0)

    @property
    def runs_span(self) -> str:
        """Return how many runs the methods have, in words."""
        if not self.finished:
            return NOTHING
        fewest = min(len(row.done) for row in self.finished)
        most = self.most_runs
        return str(most) if fewest == most else f"{fewest} to {most}"

    @property
    def has_class_intervals(self) -> bool:
        """Return whether a method has an interval over test classes."""
        return any(row.main and row.main.over_classes is not None for row in self.finished)

    @property
    def of_thresholds(self) -> list[str]:
        """Return the metrics of one threshold for all pairs that a method has."""
        return [name for name in of_pairs() if any(row.reported(name) for row in self.finished)]

    @property
    def family_size(self) -> int:
        """Return how many comparisons have a verdict."""
        return sum(bool(pair.verdict) for pair in self.pairs)

    @property
    def pairs_heading(self) -> str:
        """Return what is compared, and how many comparisons came out which way."""
        against = f"Against {self.opponent}" if self.opponent else "Between all pairs"
        counts = [f"{len(pairs)} {word}" for word, pairs in self.verdicts.items() if pairs]
        return f"{against}: {', '.join(counts)}" if counts else against

    @property
    def joining(self) -> str:
        """Return by how many points joining the fold models moves the methods."""
        gains = [row.gain for row in self.finished if row.gain is not None]
        low, high = (number(end, signed=True) for end in (min(gains), max(gains)))
        return low if low == high else f"{low} to {high}"

    @property
    def opponent(self) -> str | None:
        """Return the one method that all others are compared with, None if there is none."""
        others = {pair.other for pair in self.pairs if pair.verdict}
        return others.pop() if len(others) == 1 else None


def sections(frames: Tables) -> Iterator[Section]:
    """Yield a section for each dataset, trunk and recipe."""
    study, found = frames.study, rows(frames)
    compared = pairs(frames, {place: _finished(group) for place, group in found.items()})
    names: dict[tuple[str, str], Sequence[str]] = {}
    for at, (place, group) in enumerate(found.items(), 1):
        key = (place[0], str(group[0].identity.get("dataset_digest", "")))
        if key not in names:
            names[key] = gallery.class_names(frames.study.out, *key)
        yield _section(study, at, group, compared.get(place, []), names[key], len(found))


def panels(count: int) -> int:
    """Return how many methods of one of ``count`` sections get charts of their curves."""
    return min(12, max(3, MAX_PANELS // max(count, 1)))


def seeds_drawn(study: Study, count: int) -> int:
    """Return how many seeds' trainings stand in a chart."""
    trainings = panels(count) * max(count, 1) * study.protocol.folds
    return max(1, min(study.protocol.seeds, MAX_TRAININGS // trainings))


def _section(
    study: Study,
    at: int,
    group: Sequence[MethodRow],
    compared: Sequence[Pair],
    names: Sequence[str],
    count: int,
) -> Section:
    baseline = next((row for row in group if row.role == "baseline"), None)
    drawn = [row for rank, row in enumerate(group) if rank < panels(count) or row is baseline]
    searched = [
        searches.read_search(row.name, row.trials, row.choice) for row in drawn if row.key.searched
    ]
    base = baseline.name if baseline else None
    return Section(
        number=at,
        place=(group[0].key.dataset, group[0].key.trunk, group[0].key.recipe),
        selection_metric=study.protocol.selection_metric,
        rows=group,
        axis=focused(*_sides(group, [row.mark for row in group])),
        pairs=compared,
        pair_axis=focused(*_sides(group, [pair.mark for pair in compared]), -ROPE, ROPE),
        learning=curves.learning(
            study,
            [row.key for row in drawn],
            baseline.key if baseline else None,
            seeds_drawn(study, count),
        ),
        by_trial=searches.by_trial(searched, base),
        by_seconds=searches.by_seconds(searched, base),
        searches=searched,
        costs=tuple(_costs(group)),
        agreement=agreement(group),
        gallery=_gallery(study, group, base, names, count),
    )


def _gallery(
    study: Study, group: Sequence[MethodRow], baseline: str | None, names: Sequence[str], count: int
) -> gallery.Gallery:
    dataset, digest = group[0].key.dataset, str(group[0].identity.get("dataset_digest", ""))
    resize_px, allowance = study.protocol.image.resize_px, gallery.BUDGET // count
    album = gallery.open_album(study.out, dataset, digest, resize_px, names, allowance)
    methods = [row.name for row in group if row.scores and row.role != "reference"]
    wanted = _opponents(methods, baseline)[: max(1, MAX_GALLERIES // count)]
    runs = [(row.name, row.done) for row in group]
    return gallery.build(study.out, album, names, runs, wanted)


def _opponents(methods: Sequence[str], baseline: str | None) -> list[tuple[str, str]]:
    """Return pairs worth a look: the two best, and the best few against the baseline."""
    against = baseline if baseline in methods else None
    others = [(against, name) for name in methods if against and name != against]
    two = methods[:2]
    best = [(two[1], two[0])] if len(two) == 2 and baseline not in two else []
    return [*others[:1], *best, *others[1:4]]


def _sides(group: Sequence[MethodRow], marks: Sequence[Mark]) -> tuple[list[Mark], list[Mark]]:
    """Return the marks of methods that train and those of the reference."""
    aside = {row.name for row in group if row.role == "reference"}
    return [m for m in marks if m.name not in aside], [m for m in marks if m.name in aside]


def _costs(group: Sequence[MethodRow]) -> Iterator[Scatter]:
    """Yield MAP@R against seconds and parameters, of all that train and where they differ."""
    for name, label, unit in (
        ("train_s", "seconds of training one seed", 1.0),
        ("parameters_trained", "thousand parameters trained", 1e-3),
        ("parameters_deployed", "thousand parameters deployed", 1e-3),
    ):
        points = [
            Point(row.name, unit * cost, row.main.mean, row.role)
            for row in group
            if row.main and row.key.trains and (cost := row.mean(name)) is not None
        ]
        if points and (name == "train_s" or len({point.x for point in points}) > 1):
            x = spanning((point.x for point in points), zero=True, count=4, room=0.12)
            y = spanning((point.y for point in points), count=4, room=0.12)
            yield place_labels(Scatter(x, y, tuple(points), label, "MAP@R, %"))


def _finished(group: Sequence[MethodRow]) -> list[str]:
    return [row.name for row in group if row.scores]
