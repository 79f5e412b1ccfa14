"""Made, not downloaded: 48 classes of coloured stripes, 8 noisy images each, 24 px."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from protocols.dataset import ArrayImages, Dataset

CLASSES, PER_CLASS, SIDE, NOISE, SEED = 48, 8, 24, 90.0, 7


def digest(root: Path | None = None) -> str:
    """Return what identifies the images: the numbers that make them."""
    del root
    return hashlib.sha256(repr((CLASSES, PER_CLASS, SIDE, NOISE, SEED, 1)).encode()).hexdigest()


def load(root: Path | None = None) -> Dataset:
    """Return the dataset; ``root`` is not needed.

    A class is a colour and a stripe frequency and angle; its images shift the stripes and
    add noise.
    """
    rng = np.random.default_rng(SEED)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    images = []
    for _ in range(CLASSES):
        colour, angle, frequency = rng.random(3), rng.random() * np.pi, rng.uniform(1, 4)
        for _ in range(PER_CLASS):
            phase = 2 * np.pi * rng.random()
            wave = np.sin(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
            clean = 255 * colour * (0.5 + 0.5 * wave[..., None])
            images.append(clean + NOISE * rng.standard_normal((SIDE, SIDE, 3)))
    pixels = np.clip(np.stack(images), 0, 255).astype(np.uint8)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    names = [f"stripes {number}" for number in range(CLASSES)]
    return Dataset("toy", ArrayImages(pixels), labels, names, digest())
