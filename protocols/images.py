"""The image pipeline: what is stored, cropped and shown to a trunk, a whole batch at once.

Images are decoded and resized once (shorter side to ``resize_px``) and kept as bytes. Cropping,
resizing a crop and flipping are one linear map per image and axis, applied as matrix products.
The weights are those of an antialiased bilinear resize, so a batch equals torchvision's
``RandomResizedCrop`` on the same boxes up to its rounding to whole grey levels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols.dataset import Sizes
from protocols.protocol import ImagePipeline

Boxes = NDArray[np.float64]  # (B, 4): top, left, height, width in stored pixels


def training_boxes(
    pipeline: ImagePipeline, sizes: Sizes, rng: np.random.Generator
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Draw a random crop box (B, 4) in each image of ``sizes`` (B, 2), and flips (B,).

    Ten boxes are drawn per image and the first that fits is taken; if none fits, the largest
    centred box within the aspect bounds (the rule of torchvision's RandomResizedCrop).
    """
    count = len(sizes)
    height, width = sizes[:, :1].astype(np.float64), sizes[:, 1:].astype(np.float64)
    area = height * width * rng.uniform(*pipeline.area, (count, 10))
    narrow, wide = (math.log(aspect) for aspect in pipeline.aspect)
    aspect = np.exp(rng.uniform(narrow, wide, (count, 10)))
    w, h = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (w >= 1) & (h >= 1) & (w <= width) & (h <= height)
    pick = fits.argmax(axis=1)[:, None]
    w, h = np.take_along_axis(w, pick, 1), np.take_along_axis(h, pick, 1)
    place = rng.random((count, 2))
    flips = rng.random(count) < pipeline.flip
    top = np.floor(place[:, :1] * (height - h + 1))
    left = np.floor(place[:, 1:] * (width - w + 1))
    boxes = np.concatenate([top, left, h, w], axis=1)
    for row in np.flatnonzero(~fits.any(axis=1)):
        boxes[row] = _centred(pipeline, int(sizes[row, 0]), int(sizes[row, 1]))
    return boxes, flips


def eval_boxes(pipeline: ImagePipeline, sizes: Sizes) -> Boxes:
    """Return centre crops (B, 4) of side crop_px, no larger than the images allow."""
    side = np.minimum(pipeline.crop_px, sizes.min(axis=1, keepdims=True))
    corner = np.rint((sizes - side) / 2)
    return np.concatenate([corner, side, side], axis=1).astype(np.float64)


def crop(
    pixels: Tensor, boxes: Boxes, out_px: int, flips: NDArray[np.bool_] | None = None
) -> Tensor:
    """Return crops resized to (B, 3, out_px, out_px), float in 0..255.

    Args:
        pixels: (B, H, W, 3) uint8, smaller images at the top left.
        boxes: (B, 4) inside each image.
        out_px: side of the result.
        flips: (B,) mirror left and right.
    """
    count, height, width, _ = pixels.shape
    down = resize_weights(boxes[:, 0], boxes[:, 2], height, out_px)  # (B, S, H)
    across = resize_weights(boxes[:, 1], boxes[:, 3], width, out_px)  # (B, S, W)
    if flips is not None:
        across[flips] = across[flips, ::-1]
    rows, columns = (torch.from_numpy(w).to(pixels.device) for w in (down, across))
    # Down first, on the pixels as they lie: colours need no plane of their own there.
    lines = rows @ pixels.reshape(count, height, width * 3).float()  # (B, S, W * 3)
    planes = lines.view(count, out_px, width, 3).permute(0, 3, 1, 2)  # (B, 3, S, W)
    found = planes.reshape(count, 3 * out_px, width) @ columns.transpose(1, 2)
    return found.view(count, 3, out_px, out_px)


def resize_weights(
    start: NDArray[np.float64], length: NDArray[np.float64], size: int, out: int
) -> NDArray[np.float32]:
    """Return (B, out, size) weights of an antialiased bilinear resize of an interval.

    Output pixel o looks at the point start + (o + 0.5) * length / out with a triangle as wide
    as one output pixel (at least one input pixel), cut off at the interval's ends and
    normalised to sum 1.
    """
    scale = (length / out)[:, None, None]  # input pixels per output pixel
    centre = start[:, None, None] + (np.arange(out)[None, :, None] + 0.5) * scale
    reach = np.maximum(scale, 1.0)
    # Only the pixels under a triangle are worked on: a few of a whole row.
    taps = math.ceil(2 * reach.max()) + 2
    column = np.floor(centre - reach - 0.5).astype(np.int64) + np.arange(taps)  # (B, out, taps)
    at = column + 0.5
    under = np.maximum(0.0, 1 - np.abs(at - centre) / reach)
    under *= (at > start[:, None, None]) & (at < (start + length)[:, None, None])
    padded = np.zeros((len(start), out, size + 2 * taps))  # triangles may hang over the ends
    np.put_along_axis(padded, column + taps, under, axis=2)
    weights = padded[:, :, taps : taps + size]
    weights /= weights.sum(axis=2, keepdims=True)
    return weights.astype(np.float32)


def _centred(pipeline: ImagePipeline, height: int, width: int) -> tuple[float, ...]:
    """Return the largest centred box whose aspect lies within the bounds."""
    ratio = min(max(width / height, pipeline.aspect[0]), pipeline.aspect[1])
    w = min(width, round(height * ratio))
    h = min(height, round(width / ratio))
    return ((height - h) // 2, (width - w) // 2, h, w)
