"""Drawing triangles with numpy alone, for the build scripts that make images of 3D models.

Nothing here depends on a graphics card or on how a BLAS multiplies: points are turned by sums
written out, so that the same models give the same pixels wherever floats follow IEEE 754.

Coordinates: x to the right, y up, z towards the viewer. Corners of triangles are (T, 3, 3): T
triangles, three corners each, three coordinates each. A model is ``centred`` first, so that it
fits into the unit sphere; the camera stands on the z axis, ``DISTANCE`` radii away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

DISTANCE = 3.0
_AT_ONCE = 1_000_000  # samples that are tried together
_NO_AREA = 1e-9  # square pixels


@dataclass(frozen=True)
class Outline:
    """Triangles as the camera sees them.

    Attributes:
        columns, rows: (T, 3) where the corners fall, in samples from the upper left.
        nearness: (T, 3) one over the corners' distance along the z axis.
    """

    columns: Floats
    rows: Floats
    nearness: Floats


@dataclass(frozen=True)
class Samples:
    """Where triangles cover the middles of samples, K times in all.

    Attributes:
        triangle: (K,) which triangle.
        place: (K,) row * side + column of the sample.
        weights: (K, 3) how much each corner counts there; a row adds up to 1.
    """

    triangle: Whole
    place: Whole
    weights: Floats

    def of(self, values: Floats) -> Floats:
        """Return (K,) what ``values`` (T, 3) of the corners are at each sample."""
        there = values[self.triangle]
        found: Floats = (
            self.weights[:, 0] * there[:, 0]
            + self.weights[:, 1] * there[:, 1]
            + self.weights[:, 2] * there[:, 2]
        )
        return found

    def chosen(self, which: Whole) -> Samples:
        """Return the samples of the given numbers."""
        return Samples(self.triangle[which], self.place[which], self.weights[which])


def centred(corners: Floats) -> Floats:
    """Return the corners with their bounding box around 0 and its half diagonal 1 long."""
    low, high = corners.min((0, 1)), corners.max((0, 1))
    half = math.sqrt(float(((high - low) ** 2).sum())) / 2
    moved: Floats = (corners - (low + high) / 2) / half
    return moved


def turned(points: Floats, about_y: float, about_x: float, about_z: float = 0.0) -> Floats:
    """Return points (..., 3) turned about y, then about x, then about z, by degrees.

    A positive turn about x tips what is behind upwards, as a camera sees it that is raised.
    """
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    c, s = _cos_sin(about_y)
    x, z = c * x + s * z, c * z - s * x
    c, s = _cos_sin(about_x)
    y, z = c * y - s * z, s * y + c * z
    c, s = _cos_sin(about_z)
    x, y = c * x - s * y, s * x + c * y
    return np.stack([x, y, z], axis=-1)


def _cos_sin(degrees: float) -> tuple[float, float]:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def normals(corners: Floats) -> tuple[Floats, Floats]:
    """Return the triangles' unit normals (T, 3), 0 where there is no area, and areas (T,)."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        axis=-1,
    )
    length = np.sqrt(across[:, 0] ** 2 + across[:, 1] ** 2 + across[:, 2] ** 2)
    return across / np.where(length > 0, length, 1.0)[:, None], length / 2


def lit(corners: Floats, light: Floats, dark: float) -> Floats:
    """Return how bright each triangle is, (T,) from ``dark`` to 1: matt, the same on both sides.

    Args:
        corners: (T, 3, 3), turned.
        light: (3,) unit vector towards the light.
        dark: brightness of a face that stands edge-on to the light.
    """
    normal, _ = normals(corners)
    towards = normal[:, 0] * light[0] + normal[:, 1] * light[1] + normal[:, 2] * light[2]
    brightness: Floats = dark + (1 - dark) * np.abs(towards)
    return brightness


def outline(corners: Floats, length: float, middle: Floats) -> Outline:
    """Return where the camera sees the triangles of a centred model.

    Args:
        corners: (T, 3, 3), turned.
        length: of the longer side of the model's outline, in samples.
        middle: (2,) column and row of the outline's middle, in samples.
    """
    nearness = 1 / (DISTANCE - corners[..., 2])
    x, y = corners[..., 0] * nearness, -corners[..., 1] * nearness
    scale = length / max(np.ptp(x), np.ptp(y))
    columns = (x - (x.max() + x.min()) / 2) * scale + middle[0]
    rows = (y - (y.max() + y.min()) / 2) * scale + middle[1]
    return Outline(columns, rows, nearness)


def covered(seen: Outline, side: int) -> Samples:
    """Return all samples of a square of ``side`` whose middle lies in a triangle or on its edge."""
    x, y = seen.columns, seen.rows
    left, top = (np.maximum(np.ceil(v.min(1) - 0.5), 0).astype(np.int64) for v in (x, y))
    right, bottom = (
        np.minimum(np.floor(v.max(1) - 0.5) + 1, side).astype(np.int64) for v in (x, y)
    )
    area = (y[:, 1] - y[:, 2]) * (x[:, 0] - x[:, 2]) + (x[:, 2] - x[:, 1]) * (y[:, 0] - y[:, 2])
    longest = np.maximum(right - left, bottom - top)
    live = (right > left) & (bottom > top) & (np.abs(area) > _NO_AREA)
    found = [Samples(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 3)))]
    square = 1  # triangles whose boxes fit into the same square are tried together
    while square < 2 * side:
        like = np.flatnonzero(live & (longest <= square) & (longest > square // 2))
        step = max(1, _AT_ONCE // square**2)
        for start in range(0, len(like), step):
            k = like[start : start + step]
            found.append(_inside(x[k], y[k], area[k], (left[k], top[k]), (square, side), k))
        square *= 2
    return Samples(
        np.concatenate([each.triangle for each in found]),
        np.concatenate([each.place for each in found]),
        np.concatenate([each.weights for each in found]),
    )


def _inside(
    x: Floats,
    y: Floats,
    area: Floats,
    corner: tuple[Whole, Whole],
    sizes: tuple[int, int],
    numbers: Whole,
) -> Samples:
    """Return the samples inside triangles whose boxes are no larger than one square.

    Args:
        x: (B, 3) columns of the corners.
        y: (B, 3) their rows.
        area: (B,) twice the signed area.
        corner: columns and rows (B,) of the squares' first samples.
        sizes: of the square and of the whole picture.
        numbers: (B,) of the triangles.
    """
    square, side = sizes
    column = corner[0][:, None, None] + np.arange(square)[None, None, :]
    row = corner[1][:, None, None] + np.arange(square)[None, :, None]
    across = column + 0.5 - x[:, 2, None, None]
    down = row + 0.5 - y[:, 2, None, None]
    twice = area[:, None, None]
    first = ((y[:, 1] - y[:, 2])[:, None, None] * across + _rest(x, 2, 1) * down) / twice
    second = ((y[:, 2] - y[:, 0])[:, None, None] * across + _rest(x, 0, 2) * down) / twice
    third = 1 - first - second
    hit = (first >= 0) & (second >= 0) & (third >= 0) & (column < side) & (row < side)
    which, r, c = np.nonzero(hit)
    place = (corner[1][which] + r) * side + corner[0][which] + c
    return Samples(numbers[which], place, np.stack([first[hit], second[hit], third[hit]], axis=-1))


def _rest(x: Floats, one: int, two: int) -> Floats:
    difference: Floats = (x[:, one] - x[:, two])[:, None, None]
    return difference


def nearest(samples: Samples, nearness: Floats) -> Whole:
    """Return the numbers of the samples that are seen: at each place the nearest one.

    Args:
        samples: K of them.
        nearness: (K,) larger is nearer. Of equals the last one is seen.
    """
    order = np.lexsort((nearness, samples.place))
    place = samples.place[order]
    last = np.append(place[1:] != place[:-1], True)[: len(place)]
    seen: Whole = order[last]
    return seen


def averaged(fine: Floats, sharpness: int) -> Floats:
    """Return (side, side, C) means over blocks of ``sharpness`` x ``sharpness`` samples."""
    side = fine.shape[0] // sharpness
    blocks = fine.reshape(side, sharpness, side, sharpness, fine.shape[2])
    means: Floats = blocks.mean((1, 3))
    return means


def shades(image: Floats, step: int) -> NDArray[np.uint8]:
    """Return an image (..., 3) in whole multiples of ``step`` between 0 and 255."""
    whole = np.clip(np.rint(np.rint(image) / step) * step, 0, 255)
    found: NDArray[np.uint8] = whole.astype(np.uint8)
    return found
