"""Mixed images: which images of a batch are mixed with which, by how much, and how.

Source: Zhang, Cisse, Dauphin and Lopez-Paz 2018 (mixup), section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from protocols.errors import PluginError
from protocols.method import Method


@dataclass(frozen=True)
class Mixing:
    """How a method wants its batches mixed.

    Attributes:
        part: of a batch's images that are mixed with others of it; 1.0 for all.
        shape: both parameters of the Beta distribution of the share.
    """

    part: float
    shape: float

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], float]:
        """Return (rows,) partners, itself for an image that stays as it is, and the share.

        The share is what an image keeps of itself. Partners are those of one permutation, so an
        image that is to be mixed can meet itself.
        """
        share = float(rng.beta(self.shape, self.shape))
        order, chosen = rng.permutation(rows), rng.permutation(rows)[: round(self.part * rows)]
        partner = np.arange(rows)
        partner[chosen] = order[chosen]
        return partner, share


def mixing_of(method: Method) -> Mixing | None:
    """Return how ``method`` wants its batches mixed, None if it does not.

    Raises:
        PluginError: a shape that is not above 0.
    """
    part = float(type(method).wants.mix)
    if not part:
        return None
    shape = method.mix_shape()
    if not (isinstance(shape, (int, float)) and math.isfinite(shape) and shape > 0):
        raise PluginError(
            f"{type(method).__name__}: mix_shape() gives {shape!r}, expected a number above 0"
        )
    return Mixing(part, float(shape))


def mixed(images: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Return share * images + (1 - share) * images[partner]; share 1 gives the images' own bits.

    Args:
        images: (B, ...) float.
        partner: (B,) int64 positions in the batch.
        share: () float of the images' type, in 0..1.
    """
    return images.lerp(images[partner], 1 - share)
