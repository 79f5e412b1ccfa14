"""A training step inside ``fit`` against the bare loop."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from protocols.protocol import ImagePipeline
from tests.perf import pictures
from tests.perf.rows import Row, threads
from tests.perf.training import against, bare_loop

RESNET = ImagePipeline(resize_px=256, crop_px=224)


def rows(folder: Path) -> list[Row]:
    """Return both trunks' rows."""
    tiny = pictures.job(folder, "emoji")
    resnet = pictures.job(folder, "photographs", "resnet50", image=RESNET, batch_size=8)
    return [
        _row("tiny, 64 px, batch 32", tiny, ">= 0.90", steps=20, rounds=15),
        _row("resnet50, 224 px, batch 8", resnet, ">= 0.97", steps=1, rounds=7),
    ]


def _row(what: str, job, target: str, *, steps: int, rounds: int) -> Row:
    with threads(1):
        found = against(job, bare_loop(job, steps), steps, rounds)
    spread = f"{min(found):.3f}..{max(found):.3f}"
    detail = f"one thread, {steps} step(s) of each side in turn; rounds {spread}"
    return Row(f"fit / bare loop, {what}", median(found), target, len(found), detail)
