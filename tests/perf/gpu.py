"""What one CUDA device does to a whole table; the rest is measured by :mod:`tests.gpu`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from benchmark.engines.local import LocalEngine
from benchmark.training.job import Job
from protocols import discovery
from protocols.protocol import Protocol
from tests.perf import pictures
from tests.perf.rows import ROUNDS, Row
from tests.perf.training import Rate
from tests.perf.trials import PHOTOS, pair

RULES: Protocol = discovery.load("protocol", "reality-check")
PACE = RULES.paces["cub200"]
SHORTEST = (PACE.patience + 1) * PACE.validate_every  # where step 0 stays the best
METHODS = 14  # of the paper


def rows(folder: Path) -> list[Row]:
    """Return the row of the device, without a number where there is none."""
    what = "the paper's CUB column, at its shortest"
    if not torch.cuda.is_available():
        return [Row(what, None, "<= 10", 0, "no GPU here", "h")]
    hours, n, detail = _column(folder)
    return [Row(what, hours, "<= 10", n, f"{torch.cuda.get_device_name()}; {detail}", "h")]


def _column(folder: Path) -> tuple[float, int, str]:
    made = pictures.job(folder, "photographs", "bn_inception", "ms", precision="bf16", image=PHOTOS)
    made = replace(made, device="cuda")
    return column(pictures.paced(made, 80, 40), 4, folder / "workers.txt")


def column(made: Job, at_once: int, log: Path) -> tuple[float, int, str]:
    """Return the projected hours of the paper's searches on CUB, from the rate of ``made``."""
    engine = LocalEngine(at_once, 1, log)
    try:
        pair(engine, made)
        hours = [column_hours(pair(engine, made), at_once, SHORTEST) for _ in range(ROUNDS)]
    finally:
        engine.close()
    detail = f"{METHODS} methods, {at_once} jobs at once, all trainings stop at step {SHORTEST}, "
    return median(hours), ROUNDS, detail + "the first possible; hours grow with the steps"


def column_hours(rate: Rate, at_once: int, steps: int) -> float:
    """Return the hours of all searches where each training takes ``steps`` steps."""
    trainings = METHODS * RULES.search.trials * RULES.folds
    validations = 1 + steps // PACE.validate_every
    validated_s = validations * pictures.CUB_VALIDATION * rate.validated_s
    return trainings * (steps * rate.step_s + validated_s) / at_once / 3600
