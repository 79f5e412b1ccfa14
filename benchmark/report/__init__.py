"""A study as one HTML file: no network, no script, the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark import records, statistics
from benchmark.report import curves, gallery, image_files
from benchmark.report.charts import (
    MAX_DOTS,
    Axis,
    Mark,
    Point,
    Scatter,
    focused,
    minus,
    place_labels,
    spanning,
)
from benchmark.report.rows import Pair, Place, Row, pairs, rows
from benchmark.study import Study
from benchmark.tables import Tables
from protocols.metrics import METRICS
from protocols.protocol import protocol_line

NOTHING = "\N{EN DASH}"
TEMPLATES = Path(__file__).parent.parent / "templates"
MAX_PAIRS = 60  # comparisons shown of one dataset, trunk and recipe
MAX_PANELS = 120  # charts of one kind
MAX_TRAININGS = 4_000  # read for learning curves
MAX_FAILURES = 200

_ROPE = 100 * statistics.ROPE
# An override's name on the command line, where it is not the protocol's own.
_OVERRIDDEN = {"trials": "search.trials"}


@dataclass(frozen=True)
class Section:
    """All that is shown of one dataset, trunk and recipe."""

    place: Place
    rows: Sequence[Row]
    axis: Axis
    pairs: Sequence[Pair]
    pair_axis: Axis
    learning: curves.Learning
    searches: Sequence[curves.Curves]
    scatter: Scatter
    gallery: gallery.Gallery
    compared: str | None

    @property
    def finished(self) -> list[Row]:
        """Return the methods with numbers, best first."""
        return [row for row in self.rows if row.scores]

    @property
    def baseline(self) -> Row | None:
        """Return the row of the protocol's baseline."""
        return next((row for row in self.rows if row.role == "baseline"), None)


def write(study: Study, frames: Tables) -> Path:
    """Write ``report/index.html`` and return its path.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    path = study.out / "report" / "index.html"
    records.write_bytes(path, render(study, frames).encode())
    return path


def render(study: Study, frames: Tables) -> str:
    """Return the report as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(num=_number, value=_value)
    found = rows(study, frames)
    sections = list(_sections(study, frames, found))
    everything = [row for section in sections for row in section.rows]
    failures = list(_failures(everything))
    protocol = study.protocol
    return environment.get_template("report.html").render(
        protocol=protocol,
        line=protocol_line(protocol),
        sections=sections,
        rows=everything,
        card=dict(_flat({**asdict(protocol), "overrides": {}})),
        overrides={_OVERRIDDEN.get(k, k): v for k, v in protocol.overrides.items()},
        recipes={row.key.recipe: dict(_flat(row.identity.get("recipe", {}))) for row in everything},
        machines=_machines(everything),
        openings=sum(len(run.openings) for row in everything for run in row.runs),
        excluded=_excluded(everything),
        failures=failures[:MAX_FAILURES],
        failure_count=len(failures),
        max_pairs=MAX_PAIRS,
        max_dots=MAX_DOTS,
        panels=_panels(len(sections)),
        seeds_drawn=_seeds_drawn(study, len(sections)),
        rope=_ROPE,
        statistics=statistics,
        metrics=METRICS,
        nothing=NOTHING,
    )


def figures(study: Study, frames: Tables, folder: Path) -> list[Path]:
    """Write the intervals and the differences as PNG and SVG into ``folder``; return the files."""
    found = rows(study, frames)
    compared = pairs(frames, _finished(found))
    files = []
    for number, (place, group) in enumerate(found.items(), 1):
        title, stem = " · ".join(place), f"{number:02d}"
        marks = [row.mark for row in group]
        files += image_files.save(folder / f"{stem}-map_at_r", marks, title, "MAP@R in per cent")
        if shown := compared.get(place, [])[:MAX_PAIRS]:
            label = "difference of MAP@R in points"
            marks = [replace(p.mark, name=f"{p.mark.name} vs {p.other}") for p in shown]
            files += image_files.save(folder / f"{stem}-differences", marks, title, label, _ROPE)
    return files


def _sections(
    study: Study, frames: Tables, found: Mapping[Place, Sequence[Row]]
) -> Iterator[Section]:
    compared = pairs(frames, _finished(found))
    seeds, panels = _seeds_drawn(study, len(found)), _panels(len(found))
    names: dict[tuple[str, str], Sequence[str]] = {}
    for place, group in found.items():
        baseline = next((row for row in group if row.role == "baseline"), None)
        drawn = [row for rank, row in enumerate(group) if rank < panels or row is baseline]
        ours = compared.get(place, [])
        digest = str(group[0].identity.get("dataset_digest", ""))
        if (place[0], digest) not in names:
            names[place[0], digest] = gallery.class_names(place[0], digest)
        best = next((r for r in group if r.scores and r.role == ""), None)
        yield Section(
            place=place,
            rows=group,
            axis=focused(*_sides(group, [row.mark for row in group])),
            pairs=ours,
            pair_axis=focused(*_sides(group, [pair.mark for pair in ours]), -_ROPE, _ROPE),
            learning=curves.learning(
                study, [row.key for row in drawn], baseline.key if baseline else None, seeds
            ),
            searches=curves.searches({row.name: row.trials for row in drawn}),
            scatter=_scatter(group),
            gallery=gallery.build(
                study.out,
                gallery.open_album(
                    study.out,
                    place[0],
                    digest,
                    study.protocol.image.resize_px,
                    names[place[0], digest],
                    gallery.BUDGET // len(found),
                ),
                names[place[0], digest],
                [(row.name, row.done) for row in group],
                baseline.name if baseline else None,
                best.name if best else None,
            ),
            compared=best.name if best else None,
        )


def _sides(group: Sequence[Row], marks: Sequence[Mark]) -> tuple[list[Mark], list[Mark]]:
    """Return the marks of methods that train and those of the reference."""
    aside = {row.name for row in group if row.role == "reference"}
    return [m for m in marks if m.name not in aside], [m for m in marks if m.name in aside]


def _scatter(group: Sequence[Row]) -> Scatter:
    """Return MAP@R against the seconds of training one seed, of all that train."""
    points = [
        Point(row.name, seconds, row.main.mean, row.role)
        for row in group
        if row.main and row.key.trains and (seconds := row.mean("train_s")) is not None
    ]
    x = spanning((p.x for p in points), zero=True, count=4)
    return place_labels(Scatter(x, spanning((p.y for p in points), count=4), tuple(points)))


def _finished(found: Mapping[Place, Sequence[Row]]) -> dict[Place, list[str]]:
    return {place: [row.name for row in group if row.scores] for place, group in found.items()}


def _panels(sections: int) -> int:
    """Return how many methods of a section get charts of their curves."""
    return min(12, max(3, MAX_PANELS // max(sections, 1)))


def _seeds_drawn(study: Study, sections: int) -> int:
    """Return how many seeds' trainings stand in a chart."""
    trainings = _panels(sections) * max(sections, 1) * study.protocol.folds
    return max(1, min(study.protocol.seeds, MAX_TRAININGS // trainings))


def _failures(everything: Sequence[Row]) -> Iterator[tuple[Row, str, str, str]]:
    """Yield (row, which, reason, detail) of failed runs and trials."""
    for row in everything:
        for run in row.failed:
            yield row, f"seed {run.seed}", run.reason or "unknown", run.detail
        for trial in row.trials:
            if trial.status == "failed":
                yield row, f"trial {trial.number}", str(trial.reason), trial.settings


def _excluded(everything: Sequence[Row]) -> dict[str, list[int]]:
    """Return how many test queries are left out, by dataset: one number if all agree."""
    found: dict[str, set[int]] = {}
    for row in everything:
        counts = {run.excluded for run in row.done if run.excluded is not None}
        found.setdefault(row.key.dataset, set()).update(counts)
    return {dataset: sorted(counts) for dataset, counts in found.items() if counts}


def _machines(everything: Sequence[Row]) -> dict[str, list[str]]:
    """Return what the runs were made with: each name with all values that were met."""
    found: dict[str, set[str]] = {}
    for row in everything:
        for run in row.runs:
            for name, value in run.measured.get("environment", {}).items():
                found.setdefault(name, set()).add(str(value))
    return {name: sorted(values) for name, values in sorted(found.items())}


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield every number of nested rules under its dotted name."""
    if isinstance(value, Mapping):
        for key in value:
            yield from _flat(value[key], f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        yield name, ", ".join(map(_value, value))
    else:
        yield name, value


def _number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """Return a number for people, an en dash where there is none."""
    if value is None:
        return NOTHING
    return minus(f"{value:+z,.{digits}f}" if signed else f"{value:z,.{digits}f}")


def _value(value: object) -> str:
    """Return a setting as written by hand."""
    if value is None or value == "":
        return NOTHING
    return f"{value:.6g}" if isinstance(value, float) else str(value)
