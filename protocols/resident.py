"""Images that live on a device, and crops made there without a wait for the host.

The pixels of a split are one long array on the device; the host only draws boxes. A crop gathers
its box, whatever the image's size, into a block of fixed size and resizes the block as
:func:`protocols.images.by_products` does: two linear maps, each to whole grey levels. All shapes
are fixed, so that the crop can be part of a captured training step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols.dataset import Sizes
from protocols.images import mapped

PIECE_BYTES = 256 << 20  # of the pixels on their way to the device
TABLE_BYTES = 32 << 20  # of the weights of all lengths: enough for images of about 200 pixels


@dataclass(frozen=True)
class Resident:
    """The pixels of some images on one device, one image after the other.

    Attributes:
        pixels: (P, 3) uint8, rows of an image from top to bottom.
        first: (n,) int64, where an image's first pixel is.
        width: (n,) int64.
    """

    pixels: Tensor
    first: Tensor
    width: Tensor

    def boxes(self, index: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
        """Return (B, height, width, 3) uint8: each box at the top left of its block.

        Beyond the box its last row and column go on.

        Args:
            index: (B,) int64 which images, in the order they were uploaded.
            boxes: (B, 4) int64 top, left, height, width inside each image.
            height: at least the largest box's.
            width: at least the largest box's.
        """
        top, left, high, wide = (part[:, None] for part in boxes.unbind(1))
        y = torch.minimum(torch.arange(height, device=boxes.device), high - 1) + top  # (B, H)
        x = torch.minimum(torch.arange(width, device=boxes.device), wide - 1) + left  # (B, W)
        row = self.first[index][:, None] + y * self.width[index][:, None]
        return self.pixels[row[:, :, None] + x[:, None, :]]


def upload(
    read: Callable[[int], NDArray[np.uint8]], sizes: Sizes, device: torch.device
) -> Resident:
    """Return the images on ``device``, copied in pieces.

    Args:
        read: gives the bytes of image i, flat or (H, W, 3).
        sizes: (n, 2) height and width of each image.
        device: where they shall live.
    """
    pixels_of = sizes.prod(axis=1)
    first = np.concatenate([[0], np.cumsum(pixels_of)[:-1]])
    pixels = torch.empty((int(pixels_of.sum()), 3), dtype=torch.uint8, device=device)
    waiting: list[NDArray[np.uint8]] = []
    start = held = 0
    for number in range(len(sizes)):
        waiting.append(read(number).reshape(-1, 3))
        held += len(waiting[-1])
        if 3 * held >= PIECE_BYTES or number == len(sizes) - 1:
            pixels[start : start + held].copy_(torch.from_numpy(np.concatenate(waiting)))
            start, held, waiting = start + held, 0, []
    return Resident(
        pixels,
        torch.from_numpy(first.astype(np.int64)).to(device),
        torch.from_numpy(sizes[:, 1].astype(np.int64)).to(device),
    )


@dataclass(frozen=True)
class Resize:
    """The weights of resizing intervals of up to ``size`` pixels to ``out``.

    Attributes:
        size: of a block that holds the intervals.
        out: pixels of the result.
        table: (size + 1, out, size) weights of each length; None where that would be too large,
            and they are worked out each time.
    """

    size: int
    out: int
    table: Tensor | None

    @classmethod
    def on(cls, device: torch.device, size: int, out: int) -> Resize:
        """Return the weights on a device, in a table where it takes at most TABLE_BYTES."""
        if 4 * (size + 1) * out * size > TABLE_BYTES:
            return cls(size, out, None)
        lengths = torch.arange(size + 1, device=device).clamp(min=1)  # no interval is empty
        return cls(size, out, triangles(lengths, size, out))

    def of(self, length: Tensor) -> Tensor:
        """Return weights (B, out, size) of intervals of these lengths (B,) int64."""
        return triangles(length, self.size, self.out) if self.table is None else self.table[length]


def resized(blocks: Tensor, lengths: Tensor, flips: Tensor, down: Resize, across: Resize) -> Tensor:
    """Return crops resized to (B, 3, h, w), float32 of whole numbers in 0..255.

    Args:
        blocks: (B, H, W, 3) uint8, each box at the top left, anything beyond it.
        lengths: (B, 2) int64 height and width of the boxes.
        flips: (B,) bool, mirror left and right.
        down: from H pixels to h.
        across: from W pixels to w.
    """
    columns = across.of(lengths[:, 1])
    columns = torch.where(flips[:, None, None], columns.flip(1), columns)
    return mapped(blocks, down.of(lengths[:, 0]), columns)


def triangles(length: Tensor, size: int, out: int) -> Tensor:
    """Return (B, out, size) float32 weights of :func:`protocols.images.resize_weights`.

    The intervals begin at 0. In float64 before they are rounded, like those.
    """
    scale = (length.double() / out)[:, None, None]  # input pixels per output pixel
    at, to = (torch.arange(n, device=length.device).double() + 0.5 for n in (size, out))
    centre = to[:, None] * scale  # (B, out, 1)
    under = (1 - (at - centre).abs() / scale.clamp(min=1.0)).clamp(min=0.0)
    under = under * (at < length[:, None, None])
    weights: Tensor = under / under.sum(2, keepdim=True)
    return weights.float()
