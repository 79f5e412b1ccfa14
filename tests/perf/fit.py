"""A training step inside ``fit`` against the bare loop, both in one worker of the program."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmark.engines.local import LocalEngine
from benchmark.training.job import Job
from protocols.protocol import ImagePipeline
from tests.perf import pictures
from tests.perf.rows import Row
from tests.perf.training import against, bare_loop

RESNET = ImagePipeline(resize_px=256, crop_px=224)


class Task(NamedTuple):
    """What one worker measures: ``steps`` steps of each side in turn, ``rounds`` times."""

    job: Job
    steps: int
    rounds: int


def rows(folder: Path) -> list[Row]:
    """Return both trunks' rows."""
    tiny = pictures.job(folder, "emoji")
    resnet = pictures.job(folder, "photographs", "resnet50", image=RESNET)
    return [
        _row(folder, "tiny, 64 px", ">= 0.90", Task(tiny, steps=20, rounds=15)),
        _row(folder, "resnet50, 224 px", ">= 0.97", Task(resnet, steps=2, rounds=7)),
    ]


def _row(folder: Path, what: str, target: str, task: Task) -> Row:
    engine = LocalEngine(1, 1, folder / "workers.txt")
    try:
        found = engine.submit(ratios, task).result()
    finally:
        engine.close()
    spread = f"{min(found):.3f}..{max(found):.3f}"
    size = task.job.protocol.batch_size
    detail = f"batch {size}, one thread, {task.steps} step(s) of each side in turn; rounds {spread}"
    return Row(f"fit / bare loop, {what}", median(found), target, len(found), detail)


def ratios(task: Task) -> list[float]:
    """Return each round's ratio. Runs on a worker: allocation is part of what is compared."""
    return against(task.job, bare_loop(task.job, task.steps), task.steps, task.rounds)
