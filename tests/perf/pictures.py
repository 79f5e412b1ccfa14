"""Data to measure on: the embedded emoji, and made photographs as JPEG files of 500 x 375 px."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark.cli import main
from benchmark.study.folder import CellKey
from benchmark.training.job import Job
from benchmark.training.splits import DataSource
from protocols import discovery
from protocols.protocol import Pace, Protocol

CLASSES, EACH, SIZE = 80, 8, (375, 500)  # of the photographs; CUB's have about this size
CUB_VALIDATION = 1466  # images of a validation fold of CUB200 under four folds


def photograph(rng: np.random.Generator) -> Image.Image:
    """Return noise with the spectrum of photographs (amplitude falls as 1 / frequency)."""
    height, width = SIZE
    frequency = np.hypot(*np.meshgrid(np.fft.rfftfreq(width), np.fft.fftfreq(height)))
    noise = np.fft.rfft2(rng.normal(size=(3, height, width))) / np.maximum(frequency, 1 / width)
    waves = np.fft.irfft2(noise, s=SIZE)
    waves = 128 + 50 * (waves - waves.mean()) / waves.std()
    return Image.fromarray(waves.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def photographs(folder: Path) -> Path:
    """Return a prepared root of photographs in CUB's layout: a folder for each class."""
    images, root = folder / "images", folder / "root"
    if not root.exists():
        rng = np.random.default_rng(0)
        for label in range(CLASSES):
            place = images / f"{label + 1:03}.Bird_{label}"
            place.mkdir(parents=True)
            for number in range(EACH):
                photograph(rng).save(place / f"Bird_{number:04}.jpg", quality=90)
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(["data", "prepare", f"folder:{images}", "--root", str(root)])
        if code:
            raise RuntimeError(f"the made photographs were refused with exit code {code}")
    return root


def job(folder: Path, data: str, trunk: str = "tiny", method: str = "contrastive", **changes: Any):
    """Return a search job on ``emoji`` or ``photographs``; ``changes`` go to its protocol."""
    root = photographs(folder) if data == "photographs" else None
    name = f"folder:{folder / 'images'}" if root else data
    rules: Protocol = discovery.load("protocol", "standard" if root else "emoji")
    digest = discovery.load("dataset", name).digest(root)
    source = DataSource(name, digest, root, folder / "cache")
    recipe = discovery.load("recipe", "adam" if trunk == "tiny" else rules.recipe)
    cell = CellKey("perf", name, trunk, recipe.name, method, method)
    protocol = replace(rules, **changes)
    return Job(cell, protocol, recipe, "search", 0, 0, {}, source, "cpu")


def paced(made: Job, steps: int, every: int) -> Job:
    """Return ``made`` with ``steps`` steps, validated at step 0 and ``every`` so many."""
    pace = Pace(max_steps=steps, steps_per_epoch=100, validate_every=every, patience=steps)
    return replace(made, protocol=replace(made.protocol, pace=pace))
