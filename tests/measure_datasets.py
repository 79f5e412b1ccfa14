"""What a dataset gives away without learning, and how near its nearest images of two classes are.

    python -m tests.measure_datasets kanji objects

Makes the figures of ``protocols/datasets/README.md``. Scores are those of the test half, its
classes being the second half of the label range.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from protocols.dataset import ArrayImages, Dataset
from protocols.discovery import load
from protocols.metrics import retrieval

BINS = 8  # of each of the three colours: 512 in all
NEAR = 10.0  # root mean square difference at half size, of 255: two such look the same at a glance
Vectors = NDArray[np.float32]


def pixels_of(dataset: Dataset) -> NDArray[np.uint8]:
    """Return all images (N, H, W, 3) of an embedded dataset."""
    images = dataset.images
    assert isinstance(images, ArrayImages)
    return images.pixels


def colours(pixels: NDArray[np.uint8]) -> Vectors:
    """Return each image's histogram over 8 x 8 x 8 colours, (N, 512): how much, never where."""
    red, green, blue = (pixels[..., c] // (256 // BINS) for c in range(3))
    cells = (red.astype(np.int64) * BINS + green) * BINS + blue
    size = pixels.shape[1] * pixels.shape[2]
    counts = [np.bincount(image.ravel(), minlength=BINS**3) for image in cells]
    return (np.stack(counts) / size).astype(np.float32)


def shades(pixels: NDArray[np.uint8]) -> Vectors:
    """Return each image's histogram over 16 shades of each colour, (N, 48)."""
    size = pixels.shape[1] * pixels.shape[2]
    levels = pixels // 16
    counts = [
        np.concatenate([np.bincount(image[..., c].ravel(), minlength=16) for c in range(3)])
        for image in levels
    ]
    return (np.stack(counts) / size).astype(np.float32)


def half(dataset: Dataset) -> NDArray[np.bool_]:
    """Return which images are of the test half."""
    test: NDArray[np.bool_] = dataset.labels >= len(dataset.class_names) // 2
    return test


def chance(labels: NDArray[np.int64]) -> float:
    """Return the precision at 1 of an answer drawn at random among the other images."""
    counts = np.bincount(labels)[labels]
    return float(((counts - 1) / (len(labels) - 1)).mean())


def halved(pixels: NDArray[np.uint8]) -> Vectors:
    """Return the images at half their size in one row each, one channel where all are equal."""
    count, side = len(pixels), pixels.shape[1] // 2
    channels = pixels[..., :1] if (pixels == pixels[..., :1]).all() else pixels
    blocks = channels.reshape(count, side, 2, side, 2, -1)
    return blocks.mean((2, 4), dtype=np.float32).reshape(count, -1)


def nearest(
    vectors: Vectors, labels: NDArray[np.int64], test: NDArray[np.bool_]
) -> dict[str, tuple[float, int]]:
    """Return the smallest root mean square difference of a pair and how many are near.

    Args:
        vectors: (N, D) pixels, of 255.
        labels: (N,).
        test: (N,) which half each is in.

    Returns:
        for pairs of one class (``class``), of two classes of one half (``half``), and of two
        classes across the halves (``across``): the smallest, and how many are below ``NEAR``.
    """
    squares = (vectors * vectors).sum(1)
    smallest = dict.fromkeys(("class", "half", "across"), np.inf)
    near = dict.fromkeys(smallest, 0)
    for start in range(0, len(vectors), 1000):
        rows = slice(start, start + 1000)
        gaps = squares[rows, None] + squares - 2 * (vectors[rows] @ vectors.T)
        rms = np.sqrt(np.maximum(gaps, 0) / vectors.shape[1])
        later = np.arange(len(vectors)) > np.arange(start, start + len(rms))[:, None]
        own, same = labels[rows, None] == labels, test[rows, None] == test
        for where, pairs in (("class", own), ("half", same & ~own), ("across", ~same)):
            found = rms[pairs & later]
            smallest[where] = min(smallest[where], float(found.min(initial=np.inf)))
            near[where] += int((found < NEAR).sum())
    return {where: (smallest[where], near[where]) for where in smallest}


def main(names: list[str]) -> None:
    """Print the figures of each dataset."""
    for name in names:
        dataset = load("dataset", name).load()
        pixels, test = pixels_of(dataset), half(dataset)
        labels = dataset.labels[test]
        print(f"{name}: {len(dataset.class_names)} classes, {len(pixels)} images")
        print(f"  chance: P@1 {100 * chance(labels):.2f} %")
        small = halved(pixels)
        for what, vectors in (
            ("colours", colours(pixels[test])),
            ("shades", shades(pixels[test])),
            ("raw pixels at half size", small[test]),
        ):
            met = retrieval(vectors, labels)
            print(
                f"  {what}: P@1 {100 * met['precision_at_1']:.1f} %, "
                f"MAP@R {100 * met['map_at_r']:.1f} %"
            )
        for where, (gap, count) in nearest(small, dataset.labels, test).items():
            print(f"  pairs in {where}: nearest {gap:.1f} of 255, below {NEAR}: {count}")


if __name__ == "__main__":
    main(sys.argv[1:])
