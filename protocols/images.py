"""The image pipeline: what is stored, cropped and shown to a trunk, a whole batch at once.

Images are decoded and resized once (shorter side to ``resize_px``) and kept as bytes. A crop is
resized as torchvision's ``RandomResizedCrop`` resizes bytes: antialiased bilinear, in whole grey
levels. On the CPU it is the same kernel, so the two are equal on the same boxes. Other devices have
no such kernel; there a whole batch is two matrix products, rounded as the kernel rounds: on average
one value in a hundred is a grey level off, hardly ever two.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from protocols.dataset import Sizes
from protocols.protocol import Extent, ImagePipeline, hw

Boxes = NDArray[np.int64]  # (B, 4): top, left, height, width in stored pixels


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
    boxes = np.concatenate([top, left, h, w], axis=1).astype(np.int64)
    for row in np.flatnonzero(~fits.any(axis=1)):
        boxes[row] = _centred(pipeline, int(sizes[row, 0]), int(sizes[row, 1]))
    return boxes, flips


def largest_box(pipeline: ImagePipeline, sizes: Sizes) -> tuple[int, int]:
    """Return the greatest height and width that training boxes can have in images of ``sizes``."""
    height, width = sizes[:, 0].astype(np.float64), sizes[:, 1].astype(np.float64)
    area, (narrow, wide) = height * width * pipeline.area[1], pipeline.aspect
    drawn_h = np.minimum(height, np.floor(np.sqrt(area / narrow)) + 1)  # + 1: they are rounded
    drawn_w = np.minimum(width, np.floor(np.sqrt(area * wide)) + 1)
    centred = [_centred(pipeline, *size) for size in np.unique(sizes, axis=0).tolist()]
    return (
        max(int(drawn_h.max()), *(box[2] for box in centred)),
        max(int(drawn_w.max()), *(box[3] for box in centred)),
    )


def eval_boxes(pipeline: ImagePipeline, sizes: Sizes) -> Boxes:
    """Return centre crops (B, 4) of the shape of crop_px, no larger than the images allow."""
    wanted = np.array(pipeline.crop_hw)
    fit = np.minimum(1.0, (sizes / wanted).min(axis=1, keepdims=True))
    lengths = np.maximum(1, np.rint(wanted * fit)).astype(np.int64)
    corner = np.rint((sizes - lengths) / 2).astype(np.int64)
    return np.concatenate([corner, lengths], axis=1)


def crop(
    pixels: Tensor, boxes: Boxes, out_px: Extent, flips: NDArray[np.bool_] | None = None
) -> Tensor:
    """Return crops resized to (B, 3, h, w), float32 of whole numbers in 0..255.

    Args:
        pixels: (B, H, W, 3) uint8, smaller images at the top left.
        boxes: (B, 4) inside each image.
        out_px: side of the result, or its height and width.
        flips: (B,) mirror left and right.
    """
    resized = one_by_one if pixels.device.type == "cpu" else by_products
    found = resized(pixels, boxes, out_px)
    if flips is not None:
        mirrored = torch.from_numpy(np.flatnonzero(flips)).to(found.device)
        found[mirrored] = found[mirrored].flip(3)
    return found


def one_by_one(pixels: Tensor, boxes: Boxes, out_px: Extent) -> Tensor:
    """Return the resized crops, each by torch's kernel for bytes, which only the CPU has."""
    planes, size = pixels.permute(0, 3, 1, 2), hw(out_px)
    parts = [
        interpolate(
            planes[row : row + 1, :, top : top + height, left : left + width],
            size=size,
            mode="bilinear",
            antialias=True,
        )
        for row, (top, left, height, width) in enumerate(boxes.tolist())
    ]
    return torch.cat(parts).float()


def by_products(pixels: Tensor, boxes: Boxes, out_px: Extent) -> Tensor:
    """Return the resized crops: one linear map per image and axis, each to whole grey levels.

    Like the kernel for bytes it goes across first, and rounds in between, halves up.
    """
    _, height, width, _ = pixels.shape
    out_h, out_w = hw(out_px)
    across = resize_weights(boxes[:, 1], boxes[:, 3], width, out_w)  # (B, w, W)
    down = resize_weights(boxes[:, 0], boxes[:, 2], height, out_h)  # (B, h, H)
    columns, rows = (torch.from_numpy(w).to(pixels.device) for w in (across, down))
    return mapped(pixels, rows, columns)


def mapped(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images under two linear maps, each to whole grey levels: (B, 3, h, w) float32.

    The products are of float32 also where a network is run in bfloat16: that holds no odd number
    above 256, and half a level is added here.

    Args:
        pixels: (B, H, W, 3) uint8.
        rows: (B, h, H) float32, applied last.
        columns: (B, w, W) float32.
    """
    count, height, width, _ = pixels.shape
    with torch.autocast(pixels.device.type, enabled=False):
        planes = pixels.permute(0, 3, 1, 2).reshape(count, 3 * height, width).float()
        lines = (planes @ columns.transpose(1, 2)).add_(0.5).floor_()  # (B, 3 * H, w)
        return (rows[:, None] @ lines.view(count, 3, height, -1)).add_(0.5).floor_()


def resize_weights(
    start: NDArray[np.int64], length: NDArray[np.int64], size: int, out: int
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


def _centred(pipeline: ImagePipeline, height: int, width: int) -> tuple[int, ...]:
    """Return the largest centred box whose aspect lies within the bounds."""
    ratio = min(max(width / height, pipeline.aspect[0]), pipeline.aspect[1])
    w = min(width, round(height * ratio))
    h = min(height, round(width / ratio))
    return ((height - h) // 2, (width - w) // 2, h, w)
