"""Rows as records of the shared schema "Every Eval Ever", version 0.2.1, for its public database.

Source: EvalEval Coalition, repository every_eval_ever, ``eval.schema.json``. Scores are fractions,
as everywhere inside; their interval is over seeds. The schema wants details as strings.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any

from benchmark import __version__
from benchmark.statistics import paired
from benchmark.study.scores import PARTS, Part, label_of
from benchmark.study.sides import sides_of
from benchmark.tables.frames import Tables
from benchmark.tables.results import CellResults

SCHEMA = "0.2.1"
FOLDER = "every_eval_ever"
LIBRARY = "dml-reality-bench"
_UNSAFE = re.compile(r"[^\w.+-]+")


def to_records(tables: Tables) -> dict[str, bytes]:
    """Return a file for each row that has results, content by name.

    The time of writing is in each of them; ``SOURCE_DATE_EPOCH`` fixes it, as in other builds.
    """
    now = os.environ.get("SOURCE_DATE_EPOCH", f"{time.time():.0f}")
    found = {}
    for cell in tables.cells:
        results = list(_results(tables, cell))
        if results:
            parts = (cell.key.dataset, f"{cell.key.trunk}.{cell.key.recipe}", cell.key.row)
            name = "/".join(_UNSAFE.sub("-", part) for part in (FOLDER, *parts))
            body = _record(tables, cell, results, now)
            text = json.dumps(body, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
            found[f"{name}.json"] = f"{text}\n".encode()
    return found


def _record(
    tables: Tables, cell: CellResults, results: list[dict[str, Any]], now: str
) -> dict[str, Any]:
    protocol, key = tables.study.protocol, cell.key
    settings = cell.choice.settings if cell.choice else {}
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{LIBRARY}/{protocol.name}/{key.dataset}/{key.row}-{key.id}/{now}",
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": f"{LIBRARY}, protocol {protocol.name} v{protocol.version}",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": LIBRARY, "version": __version__},
        "model_info": {
            "name": key.row,
            "id": f"{LIBRARY}/{key.method}-{key.id}",
            "additional_details": {
                "method": key.method,
                "trunk": key.trunk,
                "recipe": key.recipe,
                "settings": json.dumps(settings, sort_keys=True),
                "cell": key.id,
            },
        },
        "evaluation_results": results,
    }


def _results(tables: Tables, cell: CellResults) -> Iterator[dict[str, Any]]:
    """Yield the scores of every metric that a run has; nothing of a row that lacks runs.

    Where runs diverged or are not done yet, the mean of the others is that of an easier task.
    """
    asked, sides = tables.study.runs_asked(cell.key), _sides(tables, cell)
    for part in PARTS:
        values = list(cell.values[part].values())
        if len(values) == asked:
            yield _result(tables, cell, part, values, sides)


def _sides(tables: Tables, cell: CellResults) -> dict[str, str]:
    """Return which classes were asked for, and among what, as far as it is known."""
    sides = sides_of(tables.study, cell.key)
    if sides is None:
        return {"classes": "test classes"}
    classes = sides.warning or "test classes, never trained on"
    return {"classes": classes, "queries": sides.task}


def _result(
    tables: Tables, cell: CellResults, part: Part, values: list[float], sides: dict[str, str]
) -> dict[str, Any]:
    interval, protocol = paired.t_interval(values), tables.study.protocol
    uncertainty: dict[str, Any] = {"num_samples": interval.n}
    if interval.sd is not None:
        uncertainty["standard_deviation"] = interval.sd
    if interval.low is not None and interval.high is not None:
        uncertainty["confidence_interval"] = {
            "lower": interval.low,
            "upper": interval.high,
            "confidence_level": paired.LEVEL,
            "method": "Student's t over seeds, conditional on one search",
        }
    embedding, metric = part
    record = tables.study.cell_record(cell.key)
    digest = str(record.identity.get("dataset_digest", "")) if record else ""
    return {
        "evaluation_name": f"{cell.key.dataset}: {label_of(metric)}, {embedding}",
        "source_data": {
            "dataset_name": cell.key.dataset,
            "source_type": "other",
            "additional_details": {"digest": digest, **sides},
        },
        "metric_config": {
            "evaluation_description": f"{label_of(metric)} of image retrieval, mean over queries "
            f"and seeds, {embedding} embeddings of {protocol.folds} folds",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
        },
        "score_details": {
            "score": interval.mean,
            "details": {
                "protocol": f"{protocol.name} v{protocol.version} {protocol.hash()}",
                "trials": str(len(cell.trials)),
                "seeds": json.dumps(sorted(cell.values[part])),
            },
            "uncertainty": uncertainty,
        },
    }
