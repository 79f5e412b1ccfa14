"""A study as one HTML file: no network, no script, the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark.report import costs, searches, settings
from benchmark.report.answers import answers
from benchmark.report.charts import MAX_DOTS, number
from benchmark.report.cliques import diagrams
from benchmark.report.rows import MethodRow
from benchmark.report.sections import MAX_PAIRS, ROPE, SHOWN_METRICS, panels, sections, seeds_drawn
from benchmark.statistics import paired
from benchmark.study import records, sides
from benchmark.study.failures import lost
from benchmark.study.machines import parted
from benchmark.study.records import RunRecord, TrialRecord
from benchmark.study.scores import HEADLINE_METRIC, MARKS, NOTHING, label_of, per_cent
from benchmark.study.spending import Price
from benchmark.tables import diagnostics
from benchmark.tables.beyond import further
from benchmark.tables.bibliography import cited
from benchmark.tables.cautions import cautions
from benchmark.tables.frames import Tables
from benchmark.tables.references import reference_rows
from protocols.knobs import SHORT
from protocols.metrics import METRICS
from protocols.names import seen
from protocols.protocol import protocol_line

TEMPLATES = Path(__file__).parent / "templates"
MAX_FAILURES = 200
MAX_ANSWERS = 20  # places answered at the top

# Where an override's value stands in the protocol, if not under the word that people see.
_PLACES = {word: key for key, word in SHORT.items()}


def write(frames: Tables, price: Price | None = None) -> Path:
    """Write ``report/index.html`` and return its path.

    Args:
        frames: of the study.
        price: of a machine's hour.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    path = frames.study.out / "report" / "index.html"
    records.write_bytes(path, render(frames, price).encode())
    return path


def render(frames: Tables, price: Price | None = None) -> str:
    """Return the report as HTML."""
    study, shown = frames.study, list(sections(frames))
    everything = [row for section in shown for row in section.rows]
    failures = list(_failures(everything))
    protocol, known = study.protocol, sides.of_datasets(study)
    return (
        _environment()
        .get_template("report.html")
        .render(
            protocol=protocol,
            title=_title(everything),
            asked=sides.heading(list(known.values())),
            disjoint=all(one and one.disjoint for one in known.values()),
            line=protocol_line(protocol),
            sections=shown,
            rows=everything,
            card=dict(_flat({**asdict(protocol), "overrides": {}})),
            overrides={_place(k): v for k, v in _flat(protocol.overrides)},
            recipes={
                row.key.recipe: dict(_flat(row.identity.get("recipe", {}))) for row in everything
            },
            machines=_machines(everything),
            cautions=cautions(frames),
            openings=sum(len(run.openings) for row in everything for run in row.runs),
            excluded=_excluded(everything),
            sources=cited(study),
            failures=failures[:MAX_FAILURES],
            failure_count=len(failures),
            lost=any(reason.endswith("machine") for _, _, reason, _ in failures),
            max_pairs=MAX_PAIRS,
            max_dots=MAX_DOTS,
            further=further(frames),
            diagrams=list(diagrams(frames)),
            answers=list(answers(shown)),
            looks=frames.looks.sentence(),
            reference_rows=partial(reference_rows, frames.references),
            max_answers=MAX_ANSWERS,
            min_trials=diagnostics.MIN_TRIALS,
            min_ranked=diagnostics.MIN_RANKED,
            panels=panels(len(shown)),
            seeds_drawn=seeds_drawn(study, len(shown)),
            slices=searches.slices,
            shown_metrics=SHOWN_METRICS,
            reached=settings.reached,
            chosen=settings.chosen,
            at_the_edge=settings.at_the_edge,
            sliced=settings.sliced,
            what_mattered=settings.what_mattered,
            bill=costs.Bill(frames, price),
            cost_heading=costs.heading,
            rope=ROPE,
            statistics=paired,
            metrics=METRICS,
            nothing=NOTHING,
            marks=MARKS,
            headline_metric=HEADLINE_METRIC,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=seen,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        num=number,
        per_cent=per_cent,
        value=settings.in_full,
        label=label_of,
    )
    return environment


def figures(frames: Tables) -> list[Path]:
    """Write every chart as PNG and SVG into ``report/figures``; return the files.

    Not a part of :func:`write`: they take a second each, and most studies never need them.
    """
    from benchmark.report import image_files  # only now: the page is made without matplotlib

    folder = frames.study.out / "report" / "figures"
    return [path for section in sections(frames) for path in image_files.save(section, folder)]


def _title(everything: Sequence[MethodRow]) -> str:
    """Return what was compared on which datasets, the first three of them by name."""
    methods = {row.name for row in everything if row.role != "reference"}
    datasets = list(dict.fromkeys(row.key.dataset for row in everything))
    more = f" and {len(datasets) - 3} more" if len(datasets) > 3 else ""
    many = "s" if len(methods) != 1 else ""
    return f"{len(methods)} method{many} on {', '.join(datasets[:3])}{more}"


def _failures(everything: Sequence[MethodRow]) -> Iterator[tuple[MethodRow, str, str, str]]:
    """Yield (row, which, reason, detail) of failed runs and trials."""
    for row in everything:
        for run in row.failed:
            yield row, f"seed {run.seed}", _reason(run), run.detail
        for trial in row.trials:
            if trial.status == "failed":
                tried = ", ".join(
                    f"{k} {settings.short(v)}" for k, v in sorted(trial.settings.items())
                )
                detail = "; ".join(words for words in (trial.detail, tried) if words)
                yield row, f"trial {trial.number}", _reason(trial), detail


def _reason(record: RunRecord | TrialRecord) -> str:
    """Return why a run or trial failed, and whether the machine lost it."""
    return f"{record.reason or 'unknown'}{', lost to the machine' * lost(record)}"


def _excluded(everything: Sequence[MethodRow]) -> dict[str, list[int]]:
    """Return how many test queries are left out, by dataset: one number if all agree."""
    found: dict[str, set[int]] = {}
    for row in everything:
        counts = {run.excluded for run in row.done if run.excluded is not None}
        found.setdefault(row.key.dataset, set()).update(counts)
    return {dataset: sorted(counts) for dataset, counts in found.items() if counts}


def _machines(everything: Sequence[MethodRow]) -> dict[str, list[str]]:
    """Return what the runs were made with: each name with all values that were met."""
    found: dict[str, set[str]] = {}
    for row in everything:
        for run in row.runs:
            environment = run.measured.get("environment", {})
            for name in environment:
                found.setdefault(name, set()).update(parted(environment, name))
    return {name: sorted(values) for name, values in sorted(found.items())}


def _place(override: str) -> str:
    """Return the dotted name of an override in the protocol's card."""
    head, dot, rest = override.partition(".")
    if head in ("recipe", "method") and dot:
        return f"{head}_values.{rest}"
    return _PLACES.get(override, override)


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield every number of nested rules under its dotted name."""
    if isinstance(value, Mapping):
        for key in value:
            yield from _flat(value[key], f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        yield name, ", ".join(map(settings.in_full, value))
    else:
        yield name, value
