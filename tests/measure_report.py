"""Print how long tables and report of 10,000 runs take; run it by hand on a quiet machine.

    python -m tests.measure_report [OUT]

Made records: 40 datasets x 25 methods x 10 seeds on 2 folds, 20 trials a search. Limits on two
cores: 10 s for the report, start of Python and tables included, and 5 s for the tables alone.
With OUT the study is kept there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.study.folder import CellKey, Study
from benchmark.study.places import cell_id
from benchmark.study.records import (
    CellRecord,
    ChoiceRecord,
    JobRecord,
    Metrics,
    RunRecord,
    TrialRecord,
)
from protocols.discovery import load
from protocols.protocol import SearchRule
from protocols.space import Choice, Integer, Real, Settings, Space, described
from tests.proven import put

ROOT = Path(__file__).resolve().parent.parent
LIMITS_S = {"tables": 5.0, "report": 10.0}
SPACE: Space = {
    "alpha": Real(0.1, 10, default=1.0, log=True),
    "margin": Real(0.0, 1.0, default=0.2),
    "anchors": Integer(1, 5, default=2),
    "mining": Choice(("hard", "semi"), default="semi"),
}


def made_study(
    out: Path, methods: int, datasets: int = 1, seeds: int = 10, trials: int = 20, **changes: Any
) -> Study:
    """Write a study of made numbers to ``out``: method k is k tenths of a point off the first."""
    protocol = replace(load("protocol", "toy"), seeds=seeds, baseline="m000", **changes)
    protocol = replace(protocol, search=SearchRule(trials=trials))
    names = [*(f"m{k:03d}" for k in range(methods)), protocol.reference]
    keys = [
        CellKey(
            cell_id(_made_of(name, f"data{d}")),
            f"data{d}",
            "tiny",
            "adam",
            name,
            name,
            *(name != protocol.reference,) * 2,
        )
        for d in range(datasets)
        for name in names
    ]
    study = Study(out, protocol).extend(keys, protocol)
    study.save()
    rng = np.random.default_rng(0)
    for number, key in enumerate(study.cells):
        level = 0.2 + 0.002 * (number % len(names)) if key.trains else 0.1
        _cell(study, key, level, rng)
    return study


def _made_of(method: str, dataset: str) -> dict[str, Any]:
    made_of = {"dataset_digest": "d1" * 32, "method_code": "c0de", "recipe": {"lr": 0.001}}
    return {**made_of, "method": method, "dataset": dataset}


def _cell(study: Study, key: CellKey, level: float, rng: np.random.Generator) -> None:
    place = (key.dataset, key.trunk, key.recipe)
    identity = _made_of(key.method, key.dataset)
    put(study, key, CellRecord(key.id, "toy", 1, *place, key.method, key.row, identity))
    trials = [_trial(study, key, n, level, rng) for n in range(study.protocol.search.trials)]
    best = max(trials, key=lambda trial: trial.value)
    choice = ChoiceRecord("c", key.id, "best", None, {}, None)
    if key.searched:
        chosen = (best.number, best.settings, best.value)
        choice = ChoiceRecord("c", key.id, "best", *chosen, described(SPACE))
        for trial in trials:
            put(study, key, trial)
    put(study, key, choice)
    for seed in range(study.protocol.seeds):
        _run(study, key, seed, level + 0.01 * float(rng.standard_normal()), choice.settings)


def _trial(
    study: Study, key: CellKey, number: int, level: float, rng: np.random.Generator
) -> TrialRecord:
    settings: Settings = {
        "alpha": float(10 ** rng.uniform(-1, 1)),
        "margin": float(rng.uniform()),
        "anchors": int(rng.integers(1, 6)),
        "mining": str(rng.choice(["hard", "semi"])),
    }
    miss = np.log10(float(settings["alpha"])) ** 2 + 0.1 * float(settings["margin"])
    value = max(0.0, level + 0.05 - 0.1 * miss + 0.005 * float(rng.standard_normal()))
    time_s = {"seconds": round(float(rng.uniform(20, 40)), 3)}
    folds: list[float | None] = [value] * study.protocol.folds
    failed = number % 13 == 12
    return TrialRecord(
        "t",
        key.id,
        number,
        settings,
        "failed" if failed else "done",
        0.0 if failed else value,
        folds,
        "non_finite" if failed else None,
        measured=time_s,
    )


def _run(study: Study, key: CellKey, seed: int, value: float, settings: Settings) -> None:
    folds = study.protocol.folds
    separated = _scores(value - 0.03)
    oracle = _scores(value - 0.027) if study.protocol.oracle_gap else None
    run = RunRecord(
        id="r",
        cell=key.id,
        seed=seed,
        settings=settings,
        status="done",
        folds=[separated] * folds,
        separated=separated,
        concatenated=_scores(value),
        validation=_scores(value + 0.02),
        best_steps=[450] * folds,
        excluded=1,
        openings=["test images opened"] * folds,
        oracle=oracle,
        counts={"parameters_trained": 32992, "parameters_deployed": 32992, "images_trained": 640},
        measured={
            "train_s": 20 + 100 * value,
            "seconds": 30.0,
            "peak_memory_mb": 512,
            "environment": {"device": "cpu", "torch": "2.11"},
        },
    )
    put(study, key, run)
    for fold in range(folds):
        history = [{"step": s, **_scores(value * (0.4 + s / 900))} for s in range(0, 550, 50)]
        job = JobRecord("j", key.id, "final", seed, fold, settings, "done", steps=500)
        put(study, key, replace(job, best_step=450, history=history))


def _scores(value: float) -> Metrics:
    return {"precision_at_1": value + 0.2, "r_precision": value + 0.1, "map_at_r": value}


def main() -> int:
    """Make the study, time both commands, print what they took; 1 if one took too long."""
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        out = Path(sys.argv[1] if len(sys.argv) > 1 else folder)
        if not (out / "study.json").exists():
            os.fsync = lambda _: None  # made records need not outlive a power cut
            made_study(out, methods=25, datasets=40)
        for name, limit in LIMITS_S.items():
            command = [sys.executable, "-m", "benchmark", name, "--out", str(out)]
            started, before = time.perf_counter(), os.times()
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            took, after = time.perf_counter() - started, os.times()
            cpu = after.children_user + after.children_system
            cpu -= before.children_user + before.children_system
            slow |= took > limit
            print(f"{name:7} {took:6.2f} s, {cpu:.2f} s of a core  (limit {limit:g} s)")
        size = (out / "report" / "index.html").stat().st_size / 1e6
        print(f"report  {size:6.2f} MB")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
