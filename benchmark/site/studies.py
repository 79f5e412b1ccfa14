"""The page of a study: what it found over all its datasets, with charts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmark.report.charts import Axis, Mark, Point, Scatter, place_labels, spanning
from benchmark.statistics.words import spoken
from benchmark.study.scores import MARKS, per_cent
from benchmark.submissions.findings import said
from benchmark.submissions.findings.cost import costs, measure_of
from benchmark.submissions.findings.parts import Part, parts
from benchmark.submissions.findings.places import Place, places
from benchmark.submissions.findings.screen import DEVIATES, caption
from benchmark.submissions.findings.studies import Entry, Study
from benchmark.submissions.findings.training import UNTRAINED, is_mixed
from benchmark.submissions.took import MEASURES

FOLDER = "studies"
_UNSAFE = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class Shown:
    """A cell of the first table: a score, what it is against the baseline, and its row's page."""

    score: str
    mark: str
    verdict: str
    address: str


@dataclass(frozen=True)
class StudyPage:
    """What the template of a study asks for."""

    study: Study

    @property
    def address(self) -> str:
        """Return the page's place, the same as long as rules, trunk and recipe are."""
        name = f"{self.study.protocol.name}-{self.study.trunk}.{self.study.recipe}"
        return f"{FOLDER}/{_UNSAFE.sub('-', name)}.html"

    @property
    def title(self) -> str:
        """Return the protocol's name with trunk and recipe where they are not its own."""
        protocol, study = self.study.protocol, self.study
        own = (study.trunk, study.recipe) == (protocol.trunk, protocol.recipe)
        return protocol.name if own else f"{protocol.name} on {study.trunk} with {study.recipe}"

    @property
    def found(self) -> str:
        """Return what was found in one or two sentences."""
        return said.found(self.study)

    @property
    def left_out(self) -> str:
        """Return which datasets of the protocol are not in it, empty for none."""
        return said.left_out(self.study)

    @cached_property
    def places(self) -> list[Place]:
        """Return the methods, best mean rank first."""
        return places(self.study)

    @property
    def caption(self) -> str:
        """Return how the first table is to be read."""
        return " · ".join(caption(self.study, self.places))

    @cached_property
    def parts(self) -> list[Part]:
        """Return the findings."""
        return parts(self.study, self.places)

    def name(self, place: Place) -> str:
        """Return a method's name with the mark of one that deviates from the protocol."""
        return f"{place.method}{DEVIATES * place.deviates}"

    def shown(self, place: Place, dataset: str) -> Shown | None:
        """Return what a method scored on a dataset, None without a row there."""
        entry = place.entries.get(dataset)
        return None if entry is None else _shown(entry)

    @property
    def axis(self) -> Axis:
        """Return the axis of mean ranks."""
        return spanning([1.0, *(v for mark in self.ranks for v in mark.values)], count=8)

    @property
    def ranks(self) -> Sequence[Mark]:
        """Return mean ranks with their intervals, of methods that have one."""
        return [
            Mark(line.method, line.rank, line.across["rank_ci_low"], line.across["rank_ci_high"])
            for line in self.places
            if line.rank is not None
        ]

    @property
    def bars(self) -> list[tuple[float, float]]:
        """Return (best, worst) mean rank of each group that no test tells apart."""
        groups: dict[str, list[float]] = {}
        for line in self.places:
            for number in str(line.across.get("cliques") or "").split():
                groups.setdefault(number, []).append(line.rank or 0.0)
        return [(min(own), max(own)) for own in groups.values() if len(own) > 1]

    @property
    def cost(self) -> Scatter | None:
        """Return MAP@R against the seconds of a training, None below two methods."""
        measure, every = measure_of(self.study), costs(self.study)
        points = tuple(Point(own.method, own.training_s, 100 * own.mean) for own in every)
        if measure is None or len(points) < 2:
            return None
        x = spanning((p.x for p in points), zero=True, room=0.12)
        y = spanning((p.y for p in points), room=0.12)
        labels = (f"{MEASURES[measure]} seconds of a training", "mean MAP@R, %")
        return place_labels(Scatter(x, y, points, *labels, width=460.0))


def _shown(entry: Entry) -> Shown:
    head = entry.head
    low, mean = head["ci_low"], head["mean"]
    verdict = "" if entry.fault else str(head.get("verdict") or "")
    half = "" if low is None else f" ± {per_cent(mean - low)}{UNTRAINED * is_mixed(entry)}"
    return Shown(
        score=entry.fault or f"{per_cent(mean)}{half}",
        mark=MARKS.get(verdict, ""),
        verdict=spoken(verdict, head.get("needs_seeds")),
        address=f"rows/{entry.row.place}.html",
    )
