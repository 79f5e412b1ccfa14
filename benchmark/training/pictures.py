"""Where a training's images come from: one gather and crop at a time, on the host or a device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.study.pixels import PixelStore
from benchmark.training.device import layout
from benchmark.training.splits import Split
from protocols.images import Boxes, crop, eval_boxes, largest_box, training_boxes
from protocols.protocol import Extent, ImagePipeline, Protocol
from protocols.resident import Resident, Resize, resized, upload

JOBS_A_CARD = "DML_JOBS_A_CARD"  # how many workers share this one's device, told by the engine
PADDED = 4  # times the images' own pixels that a padded batch may have
HOST = torch.device("cpu")
SHARE = 4  # a job's resident images take at most one part in so many of a device's memory
_LIVE = WeakValueDictionary[int, Resident]()  # all that are on a device of this process


def jobs_a_card() -> int:
    """Return how many workers share this process's device."""
    return int(os.environ.get(JOBS_A_CARD, "1"))


@dataclass(frozen=True)
class DeviceImages:
    """A split's images as a device sees them, for training crops without a wait.

    ``resident`` is None where the images do not fit; the boxes of a batch then travel.

    Attributes:
        split: the images.
        pipeline: how they are cropped.
        down: how a block that holds any training box is resized from top to bottom.
        across: likewise from left to right.
        resident: all pixels of the split on the device.
    """

    split: Split
    pipeline: ImagePipeline
    down: Resize
    across: Resize
    resident: Resident | None

    def draw(
        self, index: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Boxes, NDArray[np.bool_]]:
        """Return random boxes (B, 4) and flips (B,) for images ``index`` (B,) of the split."""
        return training_boxes(self.pipeline, self._sizes(index), rng)

    def blocks(self, index: NDArray[np.int64], boxes: Boxes) -> Tensor | None:
        """Return the boxes' pixels (B, H, W, 3) on the host, None where all are resident."""
        if self.resident is not None:
            return None
        found = np.zeros((len(index), self.down.size, self.across.size, 3), np.uint8)
        for row, image, box in zip(found, self.split.index[index], boxes.tolist(), strict=True):
            top, left, height, width = box
            pixels = self.split.store.image(int(image))
            row[:height, :width] = pixels[top : top + height, left : left + width]
        return torch.from_numpy(found)

    def crops(self, index: Tensor, boxes: Tensor, flips: Tensor, blocks: Tensor | None) -> Tensor:
        """Return (B, 3, H, W) float32, all arguments and the result on the device."""
        if self.resident is not None:
            blocks = self.resident.boxes(index, boxes, self.down.size, self.across.size)
        assert blocks is not None
        return resized(blocks, boxes[:, 2:], flips, self.down, self.across)

    def _sizes(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.split.store.sizes[self.split.index[index]]


def on_device(split: Split, pipeline: ImagePipeline, device: torch.device) -> DeviceImages:
    """Return the images of ``split`` for training on ``device``, resident if they fit."""
    sides = zip(
        largest_box(pipeline, split.store.sizes[split.index]), pipeline.crop_hw, strict=True
    )
    down, across = (Resize.on(device, side, wanted) for side, wanted in sides)
    return DeviceImages(split, pipeline, down, across, resident(split, device))


def resident(split: Split, device: torch.device) -> Resident | None:
    """Return the split's pixels on ``device``, uploaded once; None where they are too many.

    A job's other splits that are there count too: those that are asked for first have the room.
    """
    key = str(device)
    if key not in split.made:
        size = int(split.store.sizes[split.index].prod(axis=1).sum()) * 3
        there = [each.pixels for each in _LIVE.values()]
        size += sum(pixels.nbytes for pixels in there if pixels.device.type == device.type)
        fits = size * jobs_a_card() * SHARE <= _memory(device)
        split.made[key] = _upload(split, device) if fits else None
    found: Resident | None = split.made[key]
    return found


def _upload(split: Split, device: torch.device) -> Resident:
    sizes = split.store.sizes[split.index]
    # Training uses these tensors too, so they are no inference tensors even if evaluation
    # asks for them first.
    with torch.inference_mode(mode=False):
        made = upload(lambda number: split.store.image(int(split.index[number])), sizes, device)
    _LIVE[id(made)] = made
    return made


def _memory(device: torch.device) -> int:
    """Return the bytes of a device."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def drawn(
    split: Split, index: NDArray[np.int64], protocol: Protocol, rng: np.random.Generator
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Return random boxes (B, 4) and flips (B,) for images ``index`` (B,) of a split."""
    return training_boxes(protocol.image, split.store.sizes[split.index[index]], rng)


def training_images(
    split: Split,
    index: NDArray[np.int64],
    protocol: Protocol,
    boxes: Boxes,
    flips: NDArray[np.bool_],
) -> Tensor:
    """Return augmented images (B, 3, H, W) of a split on the CPU, as :func:`drawn` says."""
    images = cropped(split.store, split.index[index], boxes, protocol.image.crop_px, flips)
    return images.contiguous(memory_format=torch.channels_last)


def cropped(
    store: PixelStore,
    rows: NDArray[np.int64],
    boxes: Boxes,
    extent: Extent,
    flips: NDArray[np.bool_] | None = None,
    device: torch.device = HOST,
) -> Tensor:
    """Return crops (B, 3, H, W) of some images, made on ``device``.

    A batch is as high and wide as its largest image. Where padding would be most of it, because
    one is a strip, each image is cropped by itself: the same crops in a thousandth of the memory.
    """
    sizes = store.sizes[rows]
    padded = len(rows) * int(sizes.max(axis=0).prod())
    if padded <= PADDED * int(sizes.prod(axis=1).sum()):
        pixels, _ = store.batch(rows)
        return crop(torch.from_numpy(pixels).to(device), boxes, extent, flips)
    found = []
    for at, number in enumerate(rows.tolist()):
        image = torch.from_numpy(store.image(number)[None]).to(device)
        flip = None if flips is None else flips[at : at + 1]
        found.append(crop(image, boxes[at : at + 1], extent, flip))
    return torch.cat(found)


def eval_images(split: Split, protocol: Protocol, device: torch.device) -> Iterator[Tensor]:
    """Yield the split's centre crops (B, 3, H, W) in order, on ``device``."""
    wanted = protocol.image.crop_hw
    boxes = eval_boxes(protocol.image, split.store.sizes[split.index])
    whole = bool((boxes[:, 2:] == wanted).all())  # nothing to resize: a crop is a copy
    store = resident(split, device) if whole and device.type != "cpu" else None
    if store is not None:
        lie = layout(device, protocol.precision)
        for images in _copied(store, boxes, wanted, protocol.eval_batch):
            yield images.contiguous(memory_format=lie)
        return
    for start in range(0, len(split), protocol.eval_batch):
        rows = split.index[start : start + protocol.eval_batch]
        some = boxes[start : start + protocol.eval_batch]
        yield cropped(split.store, rows, some, wanted, device=device)


def _copied(
    store: Resident, boxes: Boxes, wanted: tuple[int, int], at_once: int
) -> Iterator[Tensor]:
    """Yield crops of (height, width) as they stand in a device's memory, without a wait."""
    places = torch.from_numpy(boxes).to(store.pixels.device)
    numbers = torch.arange(len(boxes), device=store.pixels.device)
    for start in range(0, len(boxes), at_once):
        index, some = numbers[start : start + at_once], places[start : start + at_once]
        yield store.boxes(index, some, *wanted).permute(0, 3, 1, 2).float()
