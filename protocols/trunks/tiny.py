"""Four convolutions of width 32: trains on small images on one CPU core in seconds."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from protocols.errors import InvalidInputError
from protocols.trunk import InputScale, Trunk

WIDTH, STAGES = 32, 4


class Tiny(Trunk):
    """Convolution, max pool, BatchNorm, ReLU, four times, halving the map each time.

    The pool stands early: what follows it then costs a quarter.
    """

    channels = WIDTH
    scale = InputScale(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        for before in (3, *[WIDTH] * (STAGES - 1)):
            conv = nn.Conv2d(before, WIDTH, 3, padding=1, bias=False)
            after = (nn.MaxPool2d(2), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True))
            self.stages.append(nn.Sequential(conv, *after))

    def map(self, images: Tensor) -> Tensor:
        """Return (B, 32, H/16, W/16)."""
        feature_map: Tensor = self.stages(images)
        return feature_map

    def set_last_stride(self, stride: int) -> None:
        """Pool by ``stride`` in the last stage; 1 leaves the map as it is."""
        last = self.stages[-1]
        assert isinstance(last, nn.Sequential)
        last[1] = nn.Identity() if stride == 1 else nn.MaxPool2d(stride)


def build(weights: Path | None = None) -> Tiny:
    """Return a randomly initialised trunk (from torch's current generator)."""
    if weights is not None:
        raise InvalidInputError(f"trunk 'tiny' has no pretrained weights; leave out {weights}")
    return Tiny()
