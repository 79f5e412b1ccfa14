"""From a record to what MLflow shall hold of it: pure, and without mlflow itself."""

from __future__ import annotations

import getpass
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmark.statistics.paired import interval_of
from benchmark.study import records
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import ChoiceRecord, JobRecord, Metrics, RunRecord, TrialRecord
from benchmark.study.rules import flat
from protocols.names import one_line
from protocols.protocol import digest
from protocols.space import Settings

Shown = TrialRecord | ChoiceRecord | RunRecord
MetricPoint = tuple[str, float, int]
STATUS: dict[records.Status, str] = {"done": "FINISHED", "failed": "FAILED"}
LAYOUT = "3"  # of what a run in MLflow holds; those of another layout are written again
_SOURCE = {"mlflow.source.name": "benchmark", "mlflow.source.type": "LOCAL"}


@dataclass(frozen=True)
class Node:
    """What one run in MLflow holds; times are ms since 1970, points (name, value, step)."""

    key: str
    name: str
    status: str
    start_ms: int
    end_ms: int
    tags: dict[str, str]
    settings: Settings
    metrics: list[MetricPoint]
    inputs: list[tuple[str, str]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)


def node_of(study: Study, cell: CellKey, record: TrialRecord | RunRecord) -> Node:
    """Return what MLflow shall hold of a trial or run, its folds below it."""
    metrics: Metrics
    if isinstance(record, TrialRecord):
        stage, name, tag, number = "search", "trial", "number", record.number
        metrics = _tried(study, record)
    else:
        stage, name, tag, number = "final", "seed", "seed", record.seed
        metrics = {**scores(record), **_costs(record)}
    own = {**tags_of(study, cell, record.kind, record.id), "content": content_of(record)}
    tags = {"stage": stage, tag: str(number)}
    title = f"{cell.row} {cell.dataset} {name} {number}"
    jobs = [job for job in study.jobs(cell, stage, number) if job]
    children = [_fold_node(study, cell, job, tags, title) for job in jobs]
    end = modified_ms(study.record_path(cell, record))
    own |= environment_of(record) if isinstance(record, RunRecord) else commit_of(record)
    return Node(
        key=own["record_id"],
        name=one_line(title),
        status=STATUS[record.status],
        start_ms=min((child.start_ms for child in children), default=end),
        end_ms=end,
        tags={**own, **tags, **texts({"reason": record.reason})},
        settings={**record.settings, **axes_of(cell), tag if tag == "seed" else name: number},
        metrics=[(metric, value, 0) for metric, value in metrics.items()],
        inputs=_whole(study, cell),
        children=children,
    )


def cell_node(study: Study, cell: CellKey) -> Node:
    """Return what MLflow shall hold of a cell beside what is below it.

    MLflow lets nobody change a parameter, so the number of seeds, which may grow, is none.
    """
    start = _start_ms(study, cell)
    tags = tags_of(study, cell, "cell", cell.id)
    name = one_line(f"{cell.row} {cell.dataset} {cell.trunk} {cell.recipe}")
    settings = {**rules_of(study, cell), **axes_of(cell)}
    whole = _whole(study, cell)
    return Node(f"cell:{cell.id}", name, "RUNNING", start, start, tags, settings, [], whole)


def rules_of(study: Study, cell: CellKey) -> Settings:
    """Return the protocol's values as they hold for a cell: ``protocol.batch_size`` and so on."""
    protocol = study.protocol.on(cell.dataset)
    own = {name: v for name, v in protocol.method_values.items() if name == cell.method}
    return dict(flat(replace(protocol, paces={}, method_values=own).rules(), "protocol."))


def under_table_of(study: Study) -> dict[str, str]:
    """Return as tags what names a study under its tables, and where its folder is."""
    protocol = study.protocol
    return {
        "protocol_hash": protocol.hash(),
        "protocol_seeds": str(protocol.seeds),
        "out": one_line(str(study.out.resolve())),
    }


def seconds_of(record: TrialRecord | RunRecord) -> Metrics:
    """Return the seconds of a record's trainings together; nothing where it does not say."""
    seconds = record.measured.get("seconds")
    return {} if seconds is None else {"seconds": seconds}


def axes_of(cell: CellKey) -> Settings:
    """Return a cell's place in the grid as parameters, so that views can group by them."""
    return {
        "method": cell.method,
        "dataset": cell.dataset,
        "trunk": cell.trunk,
        "recipe": cell.recipe,
    }


def content_of(record: TrialRecord | RunRecord) -> str:
    """Return 16 hex digits over all of a record: equal records of two studies may differ."""
    return records.checksum_of(record)[:16]


def user() -> str:
    """Return who runs this, for a server that several people write to."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in many containers
        return ""


def _whole(study: Study, cell: CellKey) -> list[tuple[str, str]]:
    """Return the dataset of a cell as an input: its name's word and its digest."""
    known = study.cell_record(cell)
    data = str(known.identity.get("dataset_digest", "")) if known else ""
    return [("all", data[:16])] if data else []


def _tried(study: Study, record: TrialRecord) -> Metrics:
    """Return a trial's metrics; the score of a failed one is the search's word, not measured."""
    score = {f"best_val_{study.protocol.selection_metric}": record.value}
    return {**(score if record.status == "done" else {}), **seconds_of(record)}


def _start_ms(study: Study, cell: CellKey) -> int:
    """Return when a cell's first training began: of a search in trial 0, else in any run."""
    if study.trials(cell):
        jobs = study.jobs(cell, "search", 0)
    else:
        seeds = range(study.runs_asked(cell))
        jobs = [job for seed in seeds for job in study.jobs(cell, "final", seed)]
    starts = [_span_ms(study, cell, job)[0] for job in jobs if job]
    return min(starts, default=modified_ms(study.folder(cell) / "cell.json"))


def _span_ms(study: Study, cell: CellKey, job: JobRecord) -> tuple[int, int]:
    """Return when a training began and ended."""
    end = modified_ms(study.record_path(cell, job))
    return end - int(1000 * job.measured.get("seconds", 0)), end


def _fold_node(
    study: Study, cell: CellKey, job: JobRecord, tags: dict[str, str], above: str
) -> Node:
    """Return what MLflow shall hold of one training: its curves above all."""
    own = {**tags_of(study, cell, job.kind, job.id), **commit_of(job)}
    why = texts({"fold": job.fold, "reason": job.reason, "detail": job.detail or None})
    start, end = _span_ms(study, cell, job)
    best = {**_prefixed("best_val_", job.validation), **_prefixed("test_", job.test)}
    curves = [
        (_metric(name), value, int(row["step"]))
        for row in job.history
        for name, value in row.items()
        if name != "step"
    ]
    return Node(
        key=own["record_id"],
        name=one_line(f"{above} fold {job.fold}"),
        status=STATUS[job.status],
        start_ms=start,
        end_ms=end,
        tags={**own, **tags, **why},
        settings={**job.settings, **axes_of(cell), "fold": job.fold},
        metrics=curves + [(name, value, 0) for name, value in {**best, **_costs(job)}.items()],
        inputs=_splits(study, cell, job),
    )


def _metric(name: str) -> str:
    """Return a curve's name; a plugin may call its losses what MLflow would refuse."""
    clean = re.sub(r"[^\w.:/ -]", "_", name)
    return clean if clean.startswith("loss/") else f"val_{clean}"


def _splits(study: Study, cell: CellKey, job: JobRecord) -> list[tuple[str, str]]:
    """Return (split, digest) of the data that a job has seen."""
    known = study.cell_record(cell)
    data = known.identity.get("dataset_digest") if known else None
    protocol = study.protocol
    fold = [protocol.fold_rule, protocol.folds, job.fold]
    splits = [(name, digest([data, *fold, name], 16)) for name in ("train", "validation")]
    return splits + ([("test", digest([data, "test"], 16))] if job.openings else [])


def tags_of(study: Study, cell: CellKey, kind: str, number: str) -> dict[str, str]:
    """Return flat tags, so that any run is found by a search without its parents."""
    return {
        "record_id": f"{kind}:{number}",
        "kind": kind,
        "protocol": study.protocol.name,
        "protocol_version": str(study.protocol.version),
        "rules_hash": study.protocol.rules_hash(),
        **texts({"dataset": cell.dataset, "trunk": cell.trunk}),
        **texts({"recipe": cell.recipe, "method": cell.method}),
        **({"search_repeat": str(cell.repeat)} if cell.repeat else {}),
    }


def scores(run: RunRecord) -> Metrics:
    """Return a run's metrics under the names MLflow shows."""
    return {
        **_prefixed("test_separated_", run.separated),
        **_prefixed("test_concatenated_", run.concatenated),
        **_prefixed("best_val_", run.validation),
    }


def means_of(cell: CellKey, runs: Sequence[RunRecord], selection_metric: str) -> Metrics:
    """Return the means over a cell's runs under the names MLflow shows; none where a run failed.

    A mean over survivors would flatter. Beside the test means of ``selection_metric``, by which
    the tables judge, stand their ``_sd``, ``_ci_low`` and ``_ci_high`` as in ``summary.csv``.
    """
    if not runs or any(run.status == "failed" for run in runs):
        return {}
    rows = [scores(run) for run in runs]
    found = {name: fmean(row[name] for row in rows) for name in rows[0]}
    for embedding in ("separated", "concatenated"):
        name = f"test_{embedding}_{selection_metric}"
        of = interval_of([row[name] for row in rows], fixed=cell.deterministic)
        ends = {"sd": of.sd, "ci_low": of.low, "ci_high": of.high}
        found |= {f"{name}_{end}": value for end, value in ends.items() if value is not None}
    return found


def _costs(record: JobRecord | RunRecord) -> Metrics:
    """Return counts and measured numbers; the environment and lists are left out."""
    everything = {**record.counts, **record.measured}
    return {name: value for name, value in everything.items() if isinstance(value, (int, float))}


def _prefixed(prefix: str, metrics: Metrics | None) -> Metrics:
    return {f"{prefix}{name}": value for name, value in (metrics or {}).items()}


def environment_of(run: RunRecord) -> dict[str, str]:
    """Return versions, device and commit as tags."""
    return {**texts(run.measured.get("environment", {})), **commit_of(run)}


def commit_of(record: TrialRecord | RunRecord | JobRecord) -> dict[str, str]:
    """Return what a record was made by, under the names that MLflow shows as a run's source."""
    commit = record.measured.get("environment", {}).get("commit")
    return {**_SOURCE, **texts({"mlflow.source.git.commit": commit})}


def texts(values: dict[str, Any]) -> dict[str, str]:
    """Return values as tags; what is None is left out."""
    return {name: one_line(str(value)) for name, value in values.items() if value is not None}


def modified_ms(path: Path) -> int:
    """Return when a record was written: records carry no clock, and a rebuild keeps this."""
    try:
        return path.stat().st_mtime_ns // 10**6
    except FileNotFoundError:
        return 0  # MLflow reads 0 as now
