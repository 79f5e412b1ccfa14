"""A study's records as the files of a row: the fields that are handed in, and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.study.environment import PACKAGES
from benchmark.study.folder import CellKey
from benchmark.study.records import (
    CellRecord,
    ChoiceRecord,
    JobRecord,
    Metrics,
    RunRecord,
    TrialRecord,
)
from benchmark.study.spending import Spending, Spent
from benchmark.submissions import schema, watched
from benchmark.submissions.schema import Cell
from protocols.metrics import METRICS
from protocols.protocol import Protocol
from protocols.space import Space, described
from protocols.verification import names as names_of_pairs

ENVIRONMENT = (
    "python",
    "device",
    "device_kind",
    "threads",
    "cpu_capability",
    "mkl_cbwr",
    "matmul_precision",
    "conv_precision",
    "cuda",
    "cudnn",
    "driver",
    "deterministic",
    "commit",
    "dirty",
    *PACKAGES,
)


@dataclass(frozen=True)
class Finished:
    """All records of one finished cell, and by seed what its runs found for every query."""

    key: CellKey
    record: CellRecord
    choice: ChoiceRecord
    trials: list[TrialRecord]
    runs: list[RunRecord]
    values: dict[int, bytes]

    def run_files(self, folder: Path) -> dict[Path, bytes]:
        """Return the content of the runs' files, to lie in ``folder``."""
        found = {folder / f"values-{seed}.npz": packed for seed, packed in self.values.items()}
        for run in self.runs:
            body = run_fields(run, self.values.get(run.seed))
            found[folder / f"seed-{run.seed}.json"] = schema.pack(body)
        return found


def row_files(
    folder: Path, finished: Finished, protocol: Protocol, space: Space, spent: Spending
) -> dict[Path, bytes]:
    """Return the content of every file of a row but its claim."""
    trials = schema.pack_trials([_trial(trial) for trial in finished.trials])
    choice = finished.choice
    cell = {
        "schema": schema.SCHEMA,
        **asdict(finished.record),
        "protocol_hash": protocol.hash(),
        "seeds": protocol.seeds,
        "space": described(space),
        "chosen": {k: getattr(choice, k) for k in ("rule", "trial", "settings", "value")},
        "took": _told(spent.of([*finished.trials, *finished.runs])),
        "trials_sha256": hashlib.sha256(trials).hexdigest(),
    }
    found = {folder / Cell.file: schema.pack(cell), folder / "trials.jsonl": trials}
    return found | finished.run_files(folder)


def _trial(trial: TrialRecord) -> dict[str, Any]:
    names = ("id", "number", "status", "reason", "settings", "folds", "value")
    seconds = round(trial.measured.get("seconds", 0.0), 3)
    return {**{name: getattr(trial, name) for name in names}, "seconds": seconds}


def _told(spent: Spent) -> dict[str, float]:
    """Return what is known of a cost, to the millisecond and millijoule; a row stays small."""
    known = {name: round(value, 3) for name, value in vars(spent).items() if value is not None}
    return {name: value for name, value in known.items() if value or name == "seconds"}


def run_fields(run: RunRecord, packed: bytes | None) -> dict[str, Any]:
    """Return a run's fields; words for people and where files lay stay behind.

    Args:
        run: the record.
        packed: what it found for every query; None for a run that diverged.
    """
    names = (
        "cell",
        "id",
        "seed",
        "status",
        "reason",
        "settings",
        "validation",
        "best_steps",
        "excluded",
        "ties",
        "embeddings_sha256",
        "embeddings_shape",
        "counts",
    )
    measured = run.measured
    made_with = environment_of(run)
    environment = {name: made_with[name] for name in ENVIRONMENT if name in made_with}
    return {
        "schema": schema.SCHEMA,
        **{name: getattr(run, name) for name in names},
        # A row holds what others can make anew of its queries, so nothing of pairs.
        "concatenated": _of_queries(run.concatenated),
        # What is reported alone is kept of the joined embedding: a row stays small in git.
        "folds": [_selecting(scores) for scores in run.folds],
        "separated": _selecting(run.separated),
        "queries_sha256": run.queries["sha256"] if run.queries else None,
        "values_sha256": hashlib.sha256(packed).hexdigest() if packed else None,
        "openings": len(run.openings),
        **{name: measured.get(name, 0.0) for name in ("seconds", "train_s")},
        "peak_memory_mb": measured.get("peak_memory_mb", 0),
        "environment": {**environment, "system": made_with.get("system", "unknown").split("-")[0]},
    }


def watched_fields(run: RunRecord, jobs: Sequence[JobRecord]) -> dict[str, Any]:
    """Return the fields of a watched run from the records of its folds, in order."""
    names = ("step", *METRICS)
    return {
        "schema": watched.SCHEMA,
        **{name: getattr(run, name) for name in ("cell", "seed", "embeddings_sha256")},
        "folds": [{name: [row[name] for row in job.oracle] for name in names} for job in jobs],
    }


def _of_queries(scores: Metrics | None) -> Metrics | None:
    """Return the metrics that are means over queries."""
    pairs = names_of_pairs()
    return {k: v for k, v in scores.items() if k not in pairs} if scores else scores


def _selecting(scores: Metrics | None) -> Metrics | None:
    """Return the metrics that may select, without those that are reported alone."""
    return {name: scores[name] for name in METRICS} if scores else scores


def environment_of(run: RunRecord) -> dict[str, Any]:
    """Return what a run was made with; empty where it was not recorded."""
    made_with: dict[str, Any] = run.measured.get("environment", {})
    return made_with
