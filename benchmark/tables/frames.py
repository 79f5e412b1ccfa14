"""Records to frames and their CSV files.

``summary``, ``runs``, ``trials`` and ``pairs`` are always written; ``across`` where a trunk and
recipe have two datasets or more; ``searches`` and ``variance`` where a cell was searched more than
once. Of such a cell the first four show the first search alone, as of any other: their intervals
are conditional on one search, and ``variance`` says how much that leaves out.

Nothing here comes from a clock or a machine and every order is fixed, so the files of a study
that was killed and resumed are the same bytes as those of one that ran straight through.
Metrics are fractions. A missing number is an empty field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from benchmark.study import failures, records
from benchmark.study.folder import Study
from benchmark.study.looks import Looks, look, read_looks
from benchmark.study.records import COUNTS, RunRecord
from benchmark.study.scores import EMBEDDINGS, HEADLINE_METRIC, PARTS
from benchmark.tables.comparisons import across_rows, ends, pair_rows, variance_rows
from benchmark.tables.csv_files import to_csv
from benchmark.tables.diagnostics import phases_reached
from benchmark.tables.references import frame as reference_frame
from benchmark.tables.results import CellResults, read, reported_parts, value_of
from protocols.space import Settings

NAMES = ("summary", "runs", "trials", "pairs")
SOMETIMES = ("across", "searches", "variance", "references")

# Column to dtype: text or None, float64 or NaN, Int64 or NA.
_PLACE = {"dataset": "object", "trunk": "object", "recipe": "object"}
_CELL = {**_PLACE, "method": "object"}
_TEST = {
    "test_classes": "Int64",
    "test_ci_low": "float64",
    "test_ci_high": "float64",
    "test_ci_kind": "object",
}
_SUMMARY = {
    "protocol": "object",
    "protocol_version": "Int64",
    "protocol_hash": "object",
    **_CELL,
    "embedding": "object",
    "metric": "object",
    "n": "Int64",
    **dict.fromkeys(("mean", "sd", "ci_low", "ci_high"), "float64"),
    "ci_kind": "object",
    "trials": "Int64",
    "failed_runs": "Int64",
    **_TEST,
    "failed_trials": "Int64",
    "lost_trials": "Int64",
}
_RUN = {
    f"validation_{HEADLINE_METRIC}": "float64",
    "settings": "object",
    "excluded": "Int64",
    "ties": "Int64",
    "embeddings_sha256": "object",
    **dict.fromkeys(COUNTS, "Int64"),
    "phases": "object",
}
_ORACLE = {f"oracle_{HEADLINE_METRIC}": "float64"}  # a column of its own, when asked for
_TRIALS = {
    **_CELL,
    "number": "Int64",
    "status": "object",
    "reason": "object",
    "value": "float64",
}
_PAIRS = {
    **_PLACE,
    "embedding": "object",
    "metric": "object",
    "method_a": "object",
    "method_b": "object",
    "family": "object",
    "n": "Int64",
    **dict.fromkeys(("mean_difference", "ci_low", "ci_high"), "float64"),
    "ci_kind": "object",
    **dict.fromkeys(("p_sign_flip", "p_holm"), "float64"),
    "p_note": "object",
    "probability_a_better": "float64",
    "effect_sd": "float64",
    "verdict": "object",
    **_TEST,
    "p_t": "float64",
    "mark": "object",
    "p_equivalent": "float64",
    **dict.fromkeys(("ci_low_family", "ci_high_family"), "float64"),
    "ci_kind_family": "object",
    "family_size": "Int64",
    "needs_seeds": "Int64",
    "p": "float64",
    "untested": "object",
}
_ESTIMATES = ("mean", "gain", "gain_iqm", "rank")
_ACROSS = {
    "trunk": "object",
    "recipe": "object",
    "embedding": "object",
    "metric": "object",
    "method": "object",
    "datasets": "Int64",
    "runs": "Int64",
    **{f"{e}{end}": "float64" for e in _ESTIMATES for end in ("", "_ci_low", "_ci_high")},
    "ci_kind": "object",
    "cliques": "object",
    "note": "object",
}
_VARIANCE = {
    **_CELL,
    "embedding": "object",
    "metric": "object",
    "searches": "Int64",
    "runs": "Int64",
    **dict.fromkeys(("mean", "ci_low", "ci_high"), "float64"),
    "ci_kind": "object",
    **dict.fromkeys(("sd_search", "sd_seed", "share_search"), "float64"),
    **dict.fromkeys(("share_ci_low", "share_ci_high"), "float64"),
}


@dataclass(frozen=True, eq=False)
class Tables:
    """The frames of a study, and the study.

    Attributes:
        summary: one row per cell, embedding and metric, over done runs. ``trials`` counts
            recorded trials, failed ones too, as the search budget does. ``ci`` is of the seeds,
            ``test_ci`` of the test classes with runs and gallery as they are: neither shows how
            far the other would move the mean. ``ci`` covers its 95 % for normal noise of runs and
            less for skewed noise: 88 to 90 % for exponential, 82 to 84 % for lognormal at 3 to 10
            runs. Recalls, MAP@10, TAR at FAR and OPIS are reported here and in ``runs`` alone.
        runs: one row per cell and seed of the protocol; ``missing`` if it has not run.
        trials: one row per cell and trial. A failed one has no value: what its record has is the
            score that the sampler is told, and was not measured.
        pairs: one row per pair of methods, embedding and metric, over the seeds that both have
            done. Verdicts belong to the declared family alone: every method but the reference
            against the baseline, or all pairs where the baseline is not among them. ``ci`` is of
            the difference alone, ``ci_family`` holds together with the rest of the family;
            ``p``, of which Holm's correction makes ``p_holm``, is ``p_t`` or, of a comparison with
            a ``mark``, from a skewed t; ``p_sign_flip`` stands beside it as a check. ``untested``
            says why no number of seeds gives a verdict.
        study: what the frames were built from.
        across: one row per method, embedding and metric of a trunk and recipe with two datasets
            or more; empty otherwise.
        searches: ``runs`` of every search of the cells that have more than one.
        variance: how much of those cells' spread is the searches' and how much the seeds'.
        references: one row per reference row and metric; empty without any.
        cells: the records behind the frames, so that a report need not read them again.
        looks: with how many seeds verdicts of this study were looked at before.
    """

    summary: pd.DataFrame
    runs: pd.DataFrame
    trials: pd.DataFrame
    pairs: pd.DataFrame
    study: Study
    across: pd.DataFrame = field(default_factory=pd.DataFrame)
    searches: pd.DataFrame = field(default_factory=pd.DataFrame)
    variance: pd.DataFrame = field(default_factory=pd.DataFrame)
    references: pd.DataFrame = field(default_factory=pd.DataFrame)
    cells: tuple[CellResults, ...] = ()
    looks: Looks = field(default_factory=Looks)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the frames that are written: those that hold something."""
        return (*NAMES, *(name for name in SOMETIMES if len(getattr(self, name))))


def make_tables(study: Study) -> Tables:
    """Return the tables of ``study``, read from its records now."""
    with threadpool_limits(limits=1, user_api="blas"):  # more threads wait longer than they work
        return _made(study)


def _made(study: Study) -> Tables:
    keys = sorted(study.cells, key=lambda c: (c.dataset, c.trunk, c.recipe, c.row, c.method))
    cells = [read(study, key) for key in keys]
    repeated = [_searches(study, cell) for cell in cells if len(study.searches(cell.key)) > 1]
    folds = {f"fold_{k}": "float64" for k in range(study.protocol.folds)}
    return Tables(
        summary=_frame(_summary_rows(study, cells), _SUMMARY),
        runs=_frame(
            _run_rows(cells, study),
            {**_CELL, **_run_dtypes(cells), **(_ORACLE if study.protocol.oracle_gap else {})},
        ),
        trials=_frame(
            _trial_rows(cells), {**_TRIALS, **folds, "chosen": "bool", "settings": "object"}
        ),
        pairs=_frame(pair_rows(cells, study.protocol), _PAIRS),
        study=study,
        across=_frame(across_rows(cells, study.protocol), _ACROSS),
        searches=_frame(
            _search_rows(repeated, study),
            {**_CELL, "search": "Int64", **_run_dtypes([c for cells in repeated for c in cells])},
        ),
        variance=_frame(variance_rows(repeated), _VARIANCE),
        references=reference_frame(study),
        cells=tuple(cells),
        looks=read_looks(study),
    )


def looked_at(tables: Tables) -> Tables:
    """Record that the verdicts are shown to somebody; return the tables that know of it.

    Nothing is recorded where there is no verdict to look at.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    pairs = tables.pairs
    judged = pairs[pairs["family"].notna() & (pairs["verdict"] != "not tested")]
    if not len(judged):
        return tables
    return replace(tables, looks=look(tables.study, int(judged["n"].max())))


def write_tables(tables: Tables, folder: Path) -> None:
    """Write every frame that holds something as ``NAME.csv``, each in one step.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    for name in tables.names:
        records.write_bytes(folder / f"{name}.csv", to_csv(getattr(tables, name)))


def baseline_names(study: Study) -> dict[tuple[str, str, str], str]:
    """Return the row name of the baseline for each (dataset, trunk, recipe) that has it."""
    base = study.protocol.baseline
    return {(c.dataset, c.trunk, c.recipe): c.row for c in study.cells if c.method == base}


def _frame(rows: Iterator[dict[str, Any]], dtypes: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(dtypes), dtype=object).astype(dtypes)


def _run_dtypes(cells: Sequence[CellResults]) -> dict[str, str]:
    """Return a run's columns; those of what is reported alone stand where a run has it."""
    parts = (*PARTS, *reported_parts(cells))
    return {
        "seed": "Int64",
        "status": "object",
        "reason": "object",
        **{f"{embedding}_{metric}": "float64" for embedding, metric in parts},
        **_RUN,
    }


def _summary_rows(study: Study, cells: Sequence[CellResults]) -> Iterator[dict[str, Any]]:
    protocol = study.protocol
    name = {
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "protocol_hash": protocol.hash(),
    }
    for cell in cells:
        own, lost = failures.split(cell.trials)
        effort = {
            "trials": len(cell.trials),
            "failed_runs": sum(run.status == "failed" for run in cell.runs),
        }
        for embedding, metric in {**cell.values, **cell.reported}:
            interval = cell.interval((embedding, metric))
            yield {
                **name,
                **cell.columns,
                "embedding": embedding,
                "metric": metric,
                "n": interval.n,
                "mean": interval.mean,
                "sd": interval.sd,
                **ends(interval),
                **effort,
                **cell.class_interval.columns((embedding, metric)),
                "failed_trials": len(own),
                "lost_trials": len(lost),
            }


def _run_rows(cells: Sequence[CellResults], study: Study) -> Iterator[dict[str, Any]]:
    for cell in cells:
        runs = {run.seed: run for run in cell.runs}
        for seed in range(study.runs_asked(cell.key)):
            run = runs.get(seed)
            row = {**cell.columns, "seed": seed, "status": run.status if run else "missing"}
            yield {**row, **_run_columns(run)} if run else row


def _run_columns(run: RunRecord) -> dict[str, Any]:
    validation = f"validation_{HEADLINE_METRIC}"
    return {
        "reason": run.reason,
        **{f"{e}_{m}": value for e in EMBEDDINGS for m, value in (getattr(run, e) or {}).items()},
        validation: value_of(run, "validation", HEADLINE_METRIC),
        "settings": _compact(run.settings),
        "excluded": run.excluded,
        "ties": run.ties,
        "embeddings_sha256": run.embeddings_sha256,
        **{name: run.counts.get(name) for name in COUNTS},
        "phases": phases_reached(run) or None,
        f"oracle_{HEADLINE_METRIC}": value_of(run, "oracle", HEADLINE_METRIC),
    }


def _searches(study: Study, cell: CellResults) -> list[CellResults]:
    """Return the cell's searches, the first one included; rows carry the cell's own name."""
    further = [read(study, key) for key in study.searches(cell.key)[1:]]
    return [cell, *(replace(other, key=replace(other.key, row=cell.key.row)) for other in further)]


def _search_rows(repeated: Sequence[list[CellResults]], study: Study) -> Iterator[dict[str, Any]]:
    for searches in repeated:
        for cell in searches:
            for row in _run_rows([cell], study):
                yield {**row, "search": cell.key.repeat}


def _trial_rows(cells: Sequence[CellResults]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        chosen = cell.choice.trial if cell.choice else None
        for trial in cell.trials:
            yield {
                **cell.columns,
                "number": trial.number,
                "status": trial.status,
                "reason": trial.reason,
                "value": trial.value if trial.status == "done" else None,
                **{f"fold_{k}": value for k, value in enumerate(trial.folds)},
                "chosen": trial.number == chosen,
                "settings": _compact(trial.settings),
            }


def _compact(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
