"""What a trunk is: the network up to its feature map, and how its input is scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from protocols.errors import InvalidInputError
from protocols.method import Features, Wants
from protocols.stages import SHIPPED, entering


@dataclass(frozen=True)
class InputScale:
    """How pixels in 0..255 RGB become a trunk's input: ``(pixels * factor - mean) / std``.

    ``mean`` and ``std`` are in the order of the trunk's channels (BGR when ``bgr``).
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    factor: float = 1 / 255
    bgr: bool = False

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the trunk's input for (B, 3, H, W) float RGB pixels in 0..255."""
        if self.bgr:
            pixels = pixels.flip(1)
        mean, std = (_channels(values, pixels.device) for values in (self.mean, self.std))
        return (pixels * self.factor - mean) / std


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return one value a channel, (1, C, 1, 1) float32, on ``device``.

    They are filled in there one by one: a copy from the host would make every step wait for the
    device.
    """
    found = torch.empty(1, len(values), 1, 1, device=device)
    for channel, value in enumerate(values):
        found[0, channel].fill_(value)
    return found


class Trunk(nn.Module):
    """Base of all trunks: images in, feature map and pooled vector out.

    Attributes:
        channels: C of the map and the vector.
        pretrained: weights were loaded, so the untouched trunk is a pretrained reference.
        nonnegative: the map ends in a ReLU.
        scale: how its input is scaled.
        begins: names of the parts that halve the map, from early to late, each of which is
            called once; what enters them are the maps of the stages before the last.
        stage_count: how many stages its features hold.
        name: how errors call it, the class's name where it is empty.
    """

    channels: int
    begins: ClassVar[tuple[str, ...]] = ()
    stage_count: int = 0
    name: str = ""
    pretrained: bool = False
    nonnegative: ClassVar[bool] = True
    scale: ClassVar[InputScale] = InputScale()

    def map(self, images: Tensor) -> Tensor:
        """Return the last feature map (B, C, H, W) of scaled images (B, 3, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must compute its map")

    def pool(self, feature_map: Tensor) -> Tensor:
        """Return the pooled descriptor (B, C); global average pooling by default."""
        return feature_map.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Features:
        """Return map, pooled vector and stages of scaled images (B, 3, H, W)."""
        if not self.stage_count:
            feature_map = self.map(images)
            return Features(feature_map, self.pool(feature_map))
        parts = self._begins()
        names = parts[len(parts) + 1 - self.stage_count :]
        with entering(self, names) as entered:
            feature_map = self.map(images)
        earlier = (entered[name] for name in names)
        return Features(feature_map, self.pool(feature_map), (*earlier, feature_map))

    def set_stages(self, count: int) -> None:
        """Give the maps of the last ``count`` stages with the features from now on, or refuse."""
        parts = self._begins()
        if not parts:
            raise InvalidInputError(
                f"trunk {self._called()} gives no stages, asked for {count}. Choose one of "
                f"{', '.join(SHIPPED)}, or timm:NAME"
            )
        if count > 1 + len(parts):
            raise InvalidInputError(
                f"trunk {self._called()} gives {1 + len(parts)} stages, asked for {count}"
            )
        self.stage_count = count

    def set_last_stride(self, stride: int) -> None:
        """Change the stride of the last stage, weights untouched, or refuse."""
        raise InvalidInputError(f"trunk {self._called()} cannot set its last stride to {stride}")

    def honour(self, wants: Wants, method: str) -> None:
        """Make the edits ``method`` wants, or raise InvalidInputError that names both."""
        trunk = self._called()
        if wants.nonnegative and not self.nonnegative:
            raise InvalidInputError(
                f"method {method!r} needs a non-negative feature map; trunk {trunk} ends "
                "without a ReLU. Choose a convolutional trunk that ends in one."
            )
        if wants.last_stride is not None:
            try:
                self.set_last_stride(wants.last_stride)
            except InvalidInputError as error:
                raise InvalidInputError(f"method {method!r}: {error}") from error
        if wants.stages:
            try:
                self.set_stages(wants.stages)
            except InvalidInputError as error:
                raise InvalidInputError(f"method {method!r} reads stages: {error}") from error

    def _called(self) -> str:
        return self.name or type(self).__name__

    def _begins(self) -> tuple[str, ...]:
        """Return the names of the parts that halve the map."""
        shipped = type(self).__module__.removeprefix("protocols.trunks.")
        return self.begins or SHIPPED.get(shipped, ())
