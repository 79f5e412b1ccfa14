"""Records to four frames and their CSV files: summary, runs, trials and pairs.

Nothing here comes from a clock or a machine and every order is fixed, so the files of a study
that was killed and resumed are the same bytes as those of one that ran straight through.
Metrics are fractions. A missing number is an empty field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark import records, statistics
from benchmark.records import ChoiceRecord, RunRecord, TrialRecord
from benchmark.study import CellKey, Study
from protocols.metrics import METRICS
from protocols.protocol import Protocol
from protocols.space import Settings

NAMES = ("summary", "runs", "trials", "pairs")
EMBEDDINGS = ("separated", "concatenated")
COUNTS = ("parameters_trained", "parameters_deployed", "images_trained", "images_embedded")
HEADLINE_METRIC = "map_at_r"

# Column to dtype: text or None, float64 or NaN, Int64 or NA.
_PLACE = {"dataset": "object", "trunk": "object", "recipe": "object"}
_CELL = {**_PLACE, "method": "object"}
_SUMMARY = {
    **{"protocol": "object", "protocol_version": "Int64", "protocol_hash": "object"},
    **_CELL,
    **{"embedding": "object", "metric": "object", "n": "Int64"},
    **dict.fromkeys(("mean", "sd", "ci_low", "ci_high"), "float64"),
    **{"ci_kind": "object", "trials": "Int64", "failed_runs": "Int64"},
}
_RUNS = {
    **_CELL,
    **{"seed": "Int64", "status": "object", "reason": "object"},
    **{f"{embedding}_{metric}": "float64" for embedding in EMBEDDINGS for metric in METRICS},
    **{f"validation_{HEADLINE_METRIC}": "float64", "settings": "object", "excluded": "Int64"},
    **{"embeddings_sha256": "object", **dict.fromkeys(COUNTS, "Int64")},
}
_ORACLE = {f"oracle_{HEADLINE_METRIC}": "float64"}  # a column of its own, when asked for
_TRIALS = {
    **_CELL,
    **{"number": "Int64", "status": "object", "reason": "object", "value": "float64"},
}
_PAIRS = {
    **_PLACE,
    **{"embedding": "object", "metric": "object", "method_a": "object", "method_b": "object"},
    **{"family": "object", "n": "Int64"},
    **dict.fromkeys(("mean_difference", "ci_low", "ci_high"), "float64"),
    **{"ci_kind": "object", "p_sign_flip": "float64", "p_holm": "float64", "p_note": "object"},
    **{"probability_a_better": "float64", "effect_sd": "float64", "verdict": "object"},
}


@dataclass(frozen=True, eq=False)
class Tables:
    """The four frames of a study, and the study.

    Attributes:
        summary: one row per cell, embedding and metric, over done runs. ``trials`` counts
            recorded trials, failed ones too, as the search budget does.
        runs: one row per cell and seed of the protocol; ``missing`` if it has not run.
        trials: one row per cell and trial.
        pairs: one row per pair of methods, embedding and metric, over the seeds that both have
            done; :func:`_compare` says which of them are tested.
        study: what the frames were built from.
    """

    summary: pd.DataFrame
    runs: pd.DataFrame
    trials: pd.DataFrame
    pairs: pd.DataFrame
    study: Study


@dataclass(frozen=True)
class _Cell:
    """A cell with what is recorded of it."""

    key: CellKey
    runs: list[RunRecord]
    trials: list[TrialRecord]
    choice: ChoiceRecord | None

    @property
    def place(self) -> dict[str, Any]:
        return {"dataset": self.key.dataset, "trunk": self.key.trunk, "recipe": self.key.recipe}

    @property
    def columns(self) -> dict[str, Any]:
        return {**self.place, "method": self.key.row}

    @cached_property
    def values(self) -> dict[tuple[str, str], dict[int, float]]:
        """Return the done runs' values by seed, for each (embedding, metric)."""
        done = [run for run in self.runs if run.status == "done"]
        return {
            (embedding, metric): {
                run.seed: value
                for run in done
                if (value := _value(run, embedding, metric)) is not None
            }
            for embedding, metric in product(EMBEDDINGS, METRICS)
        }


def frames(study: Study) -> Tables:
    """Return the tables of ``study``, read from its records now."""
    keys = sorted(study.cells, key=lambda c: (c.dataset, c.trunk, c.recipe, c.row, c.method))
    cells = [_Cell(k, study.runs(k), study.trials(k), study.choice(k)) for k in keys]
    folds = {f"fold_{k}": "float64" for k in range(study.protocol.folds)}
    return Tables(
        summary=_frame(_summary_rows(study, cells), _SUMMARY),
        runs=_frame(
            _run_rows(cells, study.protocol.seeds),
            {**_RUNS, **(_ORACLE if study.protocol.oracle_gap else {})},
        ),
        trials=_frame(
            _trial_rows(cells), {**_TRIALS, **folds, "chosen": "bool", "settings": "object"}
        ),
        pairs=_frame(_pair_rows(cells, study.protocol), _PAIRS),
        study=study,
    )


def write(tables: Tables, folder: Path) -> None:
    """Write ``summary.csv``, ``runs.csv``, ``trials.csv`` and ``pairs.csv``, each in one step.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    for name in NAMES:
        records.write_bytes(folder / f"{name}.csv", to_csv(getattr(tables, name)))


def to_csv(frame: pd.DataFrame) -> bytes:
    r"""Return ``frame`` as CSV: shortest floats that read back the same, ``\n`` line ends."""
    return frame.to_csv(index=False, lineterminator="\n").encode()


def baselines(study: Study) -> dict[tuple[str, str, str], str]:
    """Return the baseline's row name for each (dataset, trunk, recipe) that has it."""
    name = study.protocol.baseline
    return {(c.dataset, c.trunk, c.recipe): c.row for c in study.cells if c.method == name}


def _frame(rows: Iterator[dict[str, Any]], dtypes: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(dtypes), dtype=object).astype(dtypes)


def _summary_rows(study: Study, cells: Sequence[_Cell]) -> Iterator[dict[str, Any]]:
    protocol = study.protocol
    name = {
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "protocol_hash": protocol.hash(),
    }
    for cell in cells:
        effort = {
            "trials": len(cell.trials),
            "failed_runs": sum(run.status == "failed" for run in cell.runs),
        }
        for (embedding, metric), by_seed in cell.values.items():
            interval = statistics.t_interval(list(by_seed.values()))
            yield {
                **name,
                **cell.columns,
                **{"embedding": embedding, "metric": metric},
                **{"n": interval.n, "mean": interval.mean, "sd": interval.sd},
                **_ends(interval),
                **effort,
            }


def _run_rows(cells: Sequence[_Cell], seeds: int) -> Iterator[dict[str, Any]]:
    for cell in cells:
        runs = {run.seed: run for run in cell.runs}
        for seed in range(seeds):
            run = runs.get(seed)
            row = {**cell.columns, "seed": seed, "status": run.status if run else "missing"}
            yield {**row, **_run_columns(run)} if run else row


def _run_columns(run: RunRecord) -> dict[str, Any]:
    validation = f"validation_{HEADLINE_METRIC}"
    return {
        "reason": run.reason,
        **{f"{e}_{m}": _value(run, e, m) for e, m in product(EMBEDDINGS, METRICS)},
        validation: _value(run, "validation", HEADLINE_METRIC),
        "settings": _compact(run.settings),
        "excluded": run.excluded,
        "embeddings_sha256": run.embeddings_sha256,
        **{name: run.counts.get(name) for name in COUNTS},
        f"oracle_{HEADLINE_METRIC}": _value(run, "oracle", HEADLINE_METRIC),
    }


def _trial_rows(cells: Sequence[_Cell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        chosen = cell.choice.trial if cell.choice else None
        for trial in cell.trials:
            yield {
                **cell.columns,
                **{"number": trial.number, "status": trial.status, "reason": trial.reason},
                "value": trial.value,
                **{f"fold_{k}": value for k, value in enumerate(trial.folds)},
                "chosen": trial.number == chosen,
                "settings": _compact(trial.settings),
            }


def _pair_rows(cells: Sequence[_Cell], protocol: Protocol) -> Iterator[dict[str, Any]]:
    # The same signs for every pair: a row depends on its own values, not on its neighbours.
    rng = np.random.default_rng(0)
    many = protocol.seeds > statistics.EXACT_PAIRS
    flips = statistics.draw_flips(protocol.seeds, rng) if many else None
    for _, group in groupby(cells, key=lambda cell: cell.key.axes[:3]):
        methods = list(group)
        for embedding, metric in product(EMBEDDINGS, METRICS):
            for row in _compare(methods, (embedding, metric), protocol, flips):
                yield {**methods[0].place, "embedding": embedding, "metric": metric, **row}


def _compare(
    methods: Sequence[_Cell],
    part: tuple[str, str],
    protocol: Protocol,
    flips: statistics.Signs | None,
) -> Iterator[dict[str, Any]]:
    """Yield a row for every pair of the methods of one dataset, trunk and recipe.

    The family of comparisons is declared before any result is seen: every method against the
    protocol's baseline, which stands as ``method_b``, so that differences read "method minus
    baseline". Without the baseline all pairs are the family. Holm's adjustment and a verdict
    belong to the family's pairs only; the others show their interval and their unadjusted p.
    """
    is_baseline = [cell.key.method == protocol.baseline for cell in methods]
    pairs = [(b, a) if is_baseline[a] else (a, b) for a, b in combinations(range(len(methods)), 2)]
    family = "baseline" if any(is_baseline) else "all pairs"
    declared = [is_baseline[b] or not any(is_baseline) for _, b in pairs]
    results = statistics.paired_all(_matrix(methods, part, protocol.seeds), pairs, flips=flips)
    tested = [r.p if ours else None for r, ours in zip(results, declared, strict=True)]
    adjusted = statistics.holm(tested)
    for (a, b), ours, result, p_holm in zip(pairs, declared, results, adjusted, strict=True):
        difference = result.difference
        yield {
            **{"method_a": methods[a].key.row, "method_b": methods[b].key.row},
            **{"family": family if ours else None, "n": result.n},
            **{"mean_difference": difference.mean, **_ends(difference)},
            **{"p_sign_flip": result.p, "p_holm": p_holm, "p_note": result.p_note or None},
            **{"probability_a_better": result.probability, "effect_sd": result.effect},
            "verdict": statistics.verdict(difference, p_holm) if ours else None,
        }


def _matrix(methods: Sequence[_Cell], part: tuple[str, str], seeds: int) -> NDArray[np.float64]:
    """Return (methods, seeds) values, NaN where a run is missing or failed."""
    return np.array([[c.values[part].get(s, np.nan) for s in range(seeds)] for c in methods])


def _ends(interval: statistics.Interval) -> dict[str, Any]:
    return {"ci_low": interval.low, "ci_high": interval.high, "ci_kind": interval.kind}


def _value(run: RunRecord, part: str, metric: str) -> float | None:
    values: dict[str, float] | None = getattr(run, part)
    return (values or {}).get(metric)


def _compact(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
