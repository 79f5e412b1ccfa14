"""The metrics of a gallery of Stanford Online Products' size, and their extra memory."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from protocols import metrics
from tests.perf.rows import ROUNDS, Row, in_turn, ratio, seconds, shown, threads

IMAGES, CLASSES, WIDTH = 60_502, 11_316, 512
BLOCK = 2048  # rows of the bare product at once


def embeddings(
    images: int = IMAGES, classes: int = CLASSES, width: int = WIDTH
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return unit vectors around a direction for each class, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    centres = rng.standard_normal((classes, width), dtype=np.float32)
    x = rng.standard_normal((images, width), dtype=np.float32)
    x += centres[labels] * 0.7
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, rng.permutation(labels) if classes < 2 else labels


def rows(folder: Path) -> list[Row]:
    """Return the rows on time, agreement and memory."""
    del folder
    x, labels = embeddings()
    out: dict[str, list[float]] = {}

    def ours() -> float:
        return seconds(lambda: out.update(ours=_values(metrics.retrieval(x, labels))))

    def theirs() -> float:
        return seconds(lambda: out.update(theirs=library(x, labels)))

    def product() -> float:
        held = np.empty((BLOCK, len(x)), np.float32)
        return seconds(
            lambda: [
                np.matmul(x[s : s + BLOCK], x.T, out=held[: len(x[s : s + BLOCK])])
                for s in range(0, len(x), BLOCK)
            ]
        )

    with threads(2):
        found = in_turn({"ours": ours, "AccuracyCalculator": theirs, "product": product})
    gap = max(abs(a - b) for a, b in zip(out["ours"], out["theirs"], strict=True))
    size = f"{IMAGES:,} x {WIDTH}"
    return [
        Row(
            f"metrics of {size} / AccuracyCalculator",
            ratio(found["ours"], found["AccuracyCalculator"]),
            "<= 0.6",
            ROUNDS,
            shown(found),
        ),
        Row(
            f"metrics of {size} / fp32 product alone",
            ratio(found["ours"], found["product"]),
            "<= 1.25",
            ROUNDS,
            f"numpy's product in blocks of {BLOCK} rows, nothing kept",
        ),
        Row("largest difference from AccuracyCalculator", gap, "<= 1e-6", 1, "of 3 metrics", "abs"),
        Row(f"extra memory of {size}", extra_memory(), "<= 1024", 1, "a process of its own", "MB"),
    ]


def library(x: NDArray[np.float32], labels: NDArray[np.int64]) -> list[float]:
    """Return AccuracyCalculator's three values."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    made = AccuracyCalculator(include=names, k="max_bin_count", device=torch.device("cpu"))
    found = made.get_accuracy(torch.from_numpy(x), torch.from_numpy(labels))
    return [found[name] for name in names]


def extra_memory(images: int = IMAGES, classes: int = CLASSES) -> float:
    """Return the MB that a fresh process holds at its peak beyond what it held before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_extra_memory, images, classes).result()


def _extra_memory(images: int, classes: int) -> float:
    x, labels = embeddings(images, classes)
    metrics.retrieval(x[:64], labels[:64])  # threads and their buffers
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before = _memory_kb("VmRSS")
    metrics.retrieval(x, labels)
    return (_memory_kb("VmHWM") - before) / 1024


def _memory_kb(which: str) -> int:
    # Not getrusage: a process inherits the peak of the one that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))


def _values(found: dict[str, float]) -> list[float]:
    return [found[name] for name in metrics.METRICS]
