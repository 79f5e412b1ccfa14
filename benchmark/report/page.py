"""A study as one HTML file: no network, no script, the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark.report import searches
from benchmark.report.answers import answers
from benchmark.report.charts import MAX_DOTS, minus
from benchmark.report.cliques import diagrams
from benchmark.report.rows import Row
from benchmark.report.sections import MAX_PAIRS, ROPE, panels, sections, seeds_drawn
from benchmark.statistics import paired
from benchmark.study import records
from benchmark.study.scores import MARKS, NOTHING
from benchmark.tables import diagnostics
from benchmark.tables.frames import Tables
from benchmark.tables.headlines import further
from protocols.metrics import METRICS
from protocols.protocol import protocol_line

TEMPLATES = Path(__file__).parent / "templates"
MAX_FAILURES = 200
MAX_ANSWERS = 20  # places answered at the top

# An override's name on the command line, where it is not the protocol's own.
_OVERRIDDEN = {"trials": "search.trials"}


def write(frames: Tables) -> Path:
    """Write ``report/index.html`` and return its path.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    path = frames.study.out / "report" / "index.html"
    records.write_bytes(path, render(frames).encode())
    return path


def render(frames: Tables) -> str:
    """Return the report as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(num=_number, value=_value, short=_short)
    study, shown = frames.study, list(sections(frames))
    everything = [row for section in shown for row in section.rows]
    failures = list(_failures(everything))
    protocol = study.protocol
    return environment.get_template("report.html").render(
        protocol=protocol,
        line=protocol_line(protocol),
        sections=shown,
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
        further=further(frames),
        diagrams=list(diagrams(frames)),
        answers=list(answers(shown)),
        max_answers=MAX_ANSWERS,
        min_trials=diagnostics.MIN_TRIALS,
        min_ranked=diagnostics.MIN_RANKED,
        panels=panels(len(shown)),
        seeds_drawn=seeds_drawn(study, len(shown)),
        slices=searches.slices,
        rope=ROPE,
        statistics=paired,
        metrics=METRICS,
        nothing=NOTHING,
        marks=MARKS,
    )


def figures(frames: Tables) -> list[Path]:
    """Write every chart as PNG and SVG into ``report/figures``; return the files.

    Not a part of :func:`write`: they take a second each, and most studies never need them.
    """
    from benchmark.report import image_files  # here: the page is drawn without matplotlib

    folder = frames.study.out / "report" / "figures"
    return [path for section in sections(frames) for path in image_files.save(section, folder)]


def _failures(everything: Sequence[Row]) -> Iterator[tuple[Row, str, str, str]]:
    """Yield (row, which, reason, detail) of failed runs and trials."""
    for row in everything:
        for run in row.failed:
            yield row, f"seed {run.seed}", run.reason or "unknown", run.detail
        for trial in row.trials:
            if trial.status == "failed":
                tried = ", ".join(f"{k} {_short(v)}" for k, v in sorted(trial.settings.items()))
                yield row, f"trial {trial.number}", str(trial.reason), tried


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


def _short(value: object) -> str:
    """Return a chosen setting in four digits; the record has all."""
    return f"{value:.4g}" if isinstance(value, float) else _value(value)


def _value(value: object) -> str:
    """Return a setting as written by hand."""
    if value is None or value == "":
        return NOTHING
    return f"{value:.6g}" if isinstance(value, float) else str(value)
