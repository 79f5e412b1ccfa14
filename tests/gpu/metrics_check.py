"""The metrics on a device: equal to the CPU's, and how long 60,502 x 512 take.

:func:`check` is for any device of torch's; ``python -m tests.gpu.metrics_check`` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from protocols import metrics

IMAGES, CLASSES, WIDTH = 60_502, 11_316, 512
LIMIT_S = 0.3
RECALLS = (1, 2, 4, 8, 10, 100, 1000)

Floats = NDArray[np.float32]


class Line(NamedTuple):
    """One line of a table: what was looked at, what was met, what must hold, seconds."""

    check: str
    result: str
    limit: str
    held: bool
    seconds: float


def check(device: str, *, timed: bool = True) -> list[Line]:
    """Return whether ``device`` gives the CPU's metrics, case by case, and the time at full size.

    Args:
        device: in torch's words; ``cpu:0`` takes the device's path on the CPU.
        timed: measure 60,502 x 512 too, which takes a CPU half a minute.
    """
    found = [_equal(name, given, device) for name, given in _cases()]
    return [*found, *(_timed(device) if timed else ())]


def _cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the inputs of ``per_query`` where float32 decides least."""
    rng = np.random.default_rng(0)
    labels = np.arange(1200) % 160
    x = rng.normal(size=(160, 32))[labels] + rng.normal(size=(1200, 32))
    yield "spread out", {"embeddings": x, "labels": labels}
    twice = x.copy()
    twice[rng.integers(0, 1200, 600)] = x[rng.integers(0, 1200, 600)]
    yield "duplicates", {"embeddings": twice, "labels": labels}
    yield (
        "near duplicates",
        {"embeddings": twice + 1e-7 * rng.normal(size=x.shape), "labels": labels},
    )
    yield "collapsed", {"embeddings": 1 + 1e-7 * rng.normal(size=x.shape), "labels": labels}
    yield "one point", {"embeddings": np.ones_like(x), "labels": labels}
    gallery = (twice[400:], labels[400:])
    yield "gallery", {"embeddings": x[:400], "labels": labels[:400], "gallery": gallery}
    yield "distance", {"embeddings": twice, "labels": labels, "normalize": False}
    yield "distance, far", {"embeddings": twice + 1e5, "labels": labels, "normalize": False}


def _equal(name: str, given: dict[str, Any], device: str) -> Line:
    here = metrics.per_query(**given, recall_at=RECALLS)
    started = perf_counter()
    there = metrics.per_query(**given, recall_at=RECALLS, device=device)
    seconds = perf_counter() - started
    fields = (*metrics.METRICS, "map_at_10", "first_hit", "neighbours", "tied")
    other = [
        field
        for field in fields
        if not np.array_equal(getattr(here, field), getattr(there, field), equal_nan=True)
    ]
    said = f"differ: {', '.join(other)}" if other else "equal"
    return Line(f"metrics, {name}", said, "equal", not other, seconds)


def _timed(device: str) -> Iterator[Line]:
    """Yield the seconds of one validation and of one test at SOP's size, host to host."""
    x, labels = _embeddings()
    for name, recall_at in (("", ()), (", recall@1000", (1, 10, 100, 1000))):
        times = []
        for _ in range(4):  # the first one loads kernels
            _wait(device)
            started = perf_counter()
            metrics.per_query(x, labels, recall_at=recall_at, device=device)
            times.append(perf_counter() - started)
        best = float(np.median(times[1:]))
        limit = "" if recall_at else f"<= {LIMIT_S} s"
        held = bool(recall_at) or best <= LIMIT_S
        size = f"metrics {IMAGES:,} x {WIDTH}{name}"
        yield Line(size, f"{best:.3f} s", limit, held, sum(times))


def _embeddings() -> tuple[Floats, NDArray[np.int64]]:
    """Return unit vectors around a direction for each class, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, IMAGES - CLASSES)])
    centres = rng.standard_normal((CLASSES, WIDTH), dtype=np.float32)
    x = rng.standard_normal((IMAGES, WIDTH), dtype=np.float32)
    x += centres[labels] * np.float32(0.7)
    return metrics.unit(x), labels


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    lines = check(sys.argv[1] if len(sys.argv) > 1 else "cuda")
    for line in lines:
        print(f"{line.check:36s} {line.result:28s} {line.limit:10s} {line.seconds:7.2f} s")
    sys.exit(not all(line.held for line in lines))
