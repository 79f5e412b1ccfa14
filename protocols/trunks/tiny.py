"""Four strided convolutions: small enough to train on a laptop's processor in seconds."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from protocols.errors import InvalidInputError
from protocols.trunk import InputScale, Trunk

VERSION = 1
WIDTHS = (32, 64, 128, 256)


class Tiny(Trunk):
    """Convolution, BatchNorm, ReLU, four times, halving the map each time."""

    channels = WIDTHS[-1]
    scale = InputScale(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        before = 3
        for width in WIDTHS:
            conv = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)
            self.stages.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU()))
            before = width

    def map(self, images: Tensor) -> Tensor:
        """Return (B, 256, H/16, W/16)."""
        feature_map: Tensor = self.stages(images)
        return feature_map

    def set_last_stride(self, stride: int) -> None:
        """Set the stride of the last convolution; the weights stay as they are."""
        last: nn.Conv2d = self.stages[-1][0]  # type: ignore[index]
        last.stride = (stride, stride)


def build(weights: Path | None = None) -> Tiny:
    """Return a randomly initialised trunk (from torch's current generator)."""
    if weights is not None:
        raise InvalidInputError(f"trunk 'tiny' has no pretrained weights; leave out {weights}")
    return Tiny()
