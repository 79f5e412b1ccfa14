"""What a step on a device gets from the host, at fixed places: draws, crops, mixing, noise.

They are one tensor of whole numbers, the boxes' pixels where they travel, partners and share where
images are mixed, then the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmark.training import pictures
from benchmark.training.device import layout
from benchmark.training.feed import Feed
from benchmark.training.steps import Training
from protocols.method import Batch, Draw
from protocols.mixing import mixed, mixing_of


class Inputs:
    """Draws what a step needs on the host, and reads it on the device.

    Args:
        training: what is drawn from.
        device: where steps are taken.

    Attributes:
        pictures: the training images, on the device or cut on the host.
    """

    def __init__(self, training: Training, device: torch.device) -> None:
        self._training, self._device = training, device
        self._labels = torch.from_numpy(training.labels).to(device)
        self.pictures = pictures.on_device(training.train, training.protocol.image, device)
        self._mixing = mixing_of(training.network.method)
        self._feeds: dict[int, Feed] = {}  # of ordinary steps, by batch size

    def drawn(self, draw: Draw, factor: float) -> list[Tensor]:
        """Draw boxes and flips, and return what a step needs from the host."""
        index = np.asarray(draw.index, np.int64)
        boxes, flips = self.pictures.draw(index, self._training.augment)
        numbers = np.concatenate(
            [index, boxes.ravel(), flips.astype(np.int64), np.array([factor]).view(np.int64)]
        )
        blocks = self.pictures.blocks(index, boxes)
        found = [torch.from_numpy(numbers), *([] if blocks is None else [blocks])]
        if self._mixing:
            partner, share = self._mixing.draw(len(index), self._training.mix)
            mix = np.concatenate([partner, np.array([share]).view(np.int64)])
            found.append(torch.from_numpy(mix))
        return found

    def feed(self, host: list[Tensor]) -> Feed:
        """Return the feed of ordinary steps that fits ``host``."""
        size = len(host[0])
        if size not in self._feeds:
            self._feeds[size] = Feed(host, self._device)
        return self._feeds[size]

    def feed_to_record(self, host: list[Tensor]) -> Feed:
        """Return a new feed for ``host`` and the method's noise, which is zeros as yet."""
        state = torch.random.get_rng_state()
        noise = self._training.network.method.noise(_rows(host))
        torch.random.set_rng_state(state)  # it is drawn again for the step itself
        feed = Feed([*host, *noise], self._device)
        feed.fill([*host, *(torch.zeros_like(part, device="cpu") for part in noise)])
        return feed

    def fill(self, feed: Feed, host: list[Tensor]) -> None:
        """Fill a recording's inputs, with fresh noise where the method draws some."""
        feed.fill([*host, *self._training.network.method.noise(_rows(host))])

    def crops(self, feed: Feed) -> Tensor:
        """Return augmented images (B, 3, S, S), mixed where the method wants them so."""
        numbers, rows = feed.tensors[0], _rows(feed.tensors)
        index, boxes, flips = numbers[:rows], numbers[rows : 5 * rows], numbers[5 * rows : 6 * rows]
        blocks = None if self.pictures.resident else feed.tensors[1]
        crops = self.pictures.crops(index, boxes.view(rows, 4), flips > 0, blocks)
        partner, share = self._mix(feed)
        if partner is not None and share is not None:
            crops = mixed(crops, partner, share)
        lie = layout(self._device, self._training.protocol.precision)
        return crops.contiguous(memory_format=lie)

    def noise(self, feed: Feed) -> tuple[Tensor, ...]:
        """Return the method's noise."""
        own = 1 + (self.pictures.resident is None) + (self._mixing is not None)
        return tuple(feed.tensors[own:])

    def factor(self, feed: Feed) -> Tensor:
        """Return the () float64 factor of every group's rate."""
        return feed.tensors[0][-1:].view(torch.float64)[0]

    def batch(self, batch: Batch, feed: Feed) -> Batch:
        """Return ``batch`` with its tensors, copies that a loss may keep."""
        index = feed.tensors[0][: _rows(feed.tensors)].clone()
        partner, share = self._mix(feed)
        partner = None if partner is None else partner.clone()
        return replace(batch, labels=self._labels[index], index=index, partner=partner, share=share)

    def batch_of_parts(self, batch: Batch, draw: Draw) -> Batch:
        """Return ``batch`` with the labels and the index of a draw in several parts."""
        index = torch.as_tensor(np.asarray(draw.index, np.int64)).to(self._device)
        return replace(batch, labels=self._labels[index], index=index)

    def _mix(self, feed: Feed) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Return partners and share of a batch, twice None where its images are not mixed."""
        if not self._mixing:
            return None, None
        numbers = feed.tensors[1 + (self.pictures.resident is None)]
        return numbers[:-1], numbers[-1:].view(torch.float64)[0].float()


def _rows(host: Sequence[Tensor]) -> int:
    """Return the batch size: inputs hold six numbers an image (index, box, flip) and one factor."""
    return (len(host[0]) - 1) // 6
