"""BN-Inception as released for Caffe, 224 or 227 px: 1024 channels; weights from a file only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu

from protocols.errors import InvalidInputError
from protocols.trunk import InputScale, Trunk
from protocols.weights import Layout, State, Weights, fit, read


class Block(NamedTuple):
    """Widths of an inception block's branches; 0 leaves a branch out."""

    one: int  # 1x1
    three: tuple[int, int]  # 1x1, then 3x3
    double: tuple[int, int]  # 1x1, then two 3x3 of the same width
    pool: Literal["average", "max", "stride"]  # 3x3 pooling; "stride" halves the map
    projection: int  # 1x1 after the pooling


BLOCKS = {
    "3a": Block(64, (64, 64), (64, 96), "average", 32),
    "3b": Block(64, (64, 96), (64, 96), "average", 64),
    "3c": Block(0, (128, 160), (64, 96), "stride", 0),
    "4a": Block(224, (64, 96), (96, 128), "average", 128),
    "4b": Block(192, (96, 128), (96, 128), "average", 128),
    "4c": Block(160, (128, 160), (128, 160), "average", 128),
    "4d": Block(96, (128, 192), (160, 192), "average", 128),
    "4e": Block(0, (128, 192), (192, 256), "stride", 0),
    "5a": Block(352, (192, 320), (160, 224), "average", 128),
    "5b": Block(352, (192, 320), (192, 224), "max", 128),
}


class BNInception(Trunk):
    """Ioffe and Szegedy 2015, arXiv:1502.03167, with the keys of the ``pretrainedmodels`` file.

    Every convolution has a bias although BatchNorm follows it: the weights have one.
    """

    channels = 1024
    scale = InputScale(mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), factor=1.0, bgr=True)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.ModuleDict()
        for name, (before, after, kernel, stride) in _convolutions():
            self.net[name] = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2)
            self.net[f"{name}_bn"] = nn.BatchNorm2d(after)

    def map(self, images: Tensor) -> Tensor:
        """Return (B, 1024, H/32, W/32).

        Raises:
            InvalidInputError: a height or width whose branches would not meet again.
        """
        _check_size(*images.shape[2:])
        x = _halve(self._run(images, "conv1_7x7_s2"))
        x = _halve(self._run(x, "conv2_3x3_reduce", "conv2_3x3"))
        for name, block in BLOCKS.items():
            x = self._block(x, f"inception_{name}", block)
        return x

    def _block(self, x: Tensor, name: str, block: Block) -> Tensor:
        branches = [self._run(x, f"{name}_1x1")] if block.one else []
        branches.append(self._run(x, f"{name}_3x3_reduce", f"{name}_3x3"))
        double = [f"{name}_double_3x3_{part}" for part in ("reduce", "1", "2")]
        branches.append(self._run(x, *double))
        if block.pool == "stride":
            branches.append(_halve(x))
        else:
            pool = avg_pool2d if block.pool == "average" else max_pool2d
            branches.append(self._run(pool(x, 3, stride=1, padding=1), f"{name}_pool_proj"))
        return torch.cat(branches, dim=1)

    def _run(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = relu(self.net[f"{name}_bn"](self.net[name](x)), inplace=True)
        return x


def build(weights: Weights = None) -> BNInception:
    """Return the trunk with ``weights``, or at random from torch's current generator."""
    trunk = BNInception()
    if weights is None:
        return trunk
    if not isinstance(weights, Path):
        raise InvalidInputError(
            f"weights {weights!r}: no library publishes weights of bn_inception under a name; "
            f"give the file of {LAYOUT.source}"
        )
    fit(trunk.net, read(weights), LAYOUT, str(weights))
    trunk.pretrained = True
    return trunk


def _flat_norms(state: State) -> State:
    """Return ``state`` with BatchNorm vectors (C,) where the oldest port has (1, C)."""
    return {
        key: value.flatten() if "_bn." in key and value.ndim == 2 else value
        for key, value in state.items()
    }


LAYOUT = Layout("pretrainedmodels' bninception", ("last_linear.", "fc."), _flat_norms)


def _convolutions() -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yield name and (channels before, after, kernel, stride), in the order of the weights."""
    yield "conv1_7x7_s2", (3, 64, 7, 2)
    yield "conv2_3x3_reduce", (64, 64, 1, 1)
    yield "conv2_3x3", (64, 192, 3, 1)
    before = 192
    for name, block in BLOCKS.items():
        prefix, stride = f"inception_{name}", 2 if block.pool == "stride" else 1
        if block.one:
            yield f"{prefix}_1x1", (before, block.one, 1, 1)
        reduced, three = block.three
        yield f"{prefix}_3x3_reduce", (before, reduced, 1, 1)
        yield f"{prefix}_3x3", (reduced, three, 3, stride)
        reduced, double = block.double
        yield f"{prefix}_double_3x3_reduce", (before, reduced, 1, 1)
        yield f"{prefix}_double_3x3_1", (reduced, double, 3, 1)
        yield f"{prefix}_double_3x3_2", (double, double, 3, stride)
        if block.projection:
            yield f"{prefix}_pool_proj", (before, block.projection, 1, 1)
        before = block.one + three + double + (block.projection or before)


def _halve(x: Tensor) -> Tensor:
    return max_pool2d(x, 3, stride=2, ceil_mode=True)


def _check_size(height: int, width: int) -> None:
    """Raise InvalidInputError where 3c and 4e would halve an odd map.

    Their pooling then rounds down and their convolutions round up.
    """
    for side in (height, width):
        if not _fits(side):
            below = next(filter(_fits, range(side, 0, -1)), None)
            above = next(filter(_fits, range(max(side, 1), side + 32)))
            near = f"{below} or {above}" if below else str(above)
            raise InvalidInputError(
                f"trunk bn_inception cannot take {height} x {width} px: the branches of its "
                "strided blocks only agree on maps that halve evenly. "
                f"The sizes next to {side} that work: {near}"
            )


def _fits(side: int) -> bool:
    """Say whether the map before 3c, an eighth of ``side``, can be halved twice."""
    eighth = (side + 1) // 8
    return eighth > 0 and eighth % 4 == 0
