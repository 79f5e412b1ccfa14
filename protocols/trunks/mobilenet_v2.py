"""MobileNetV2, 224 px: 1280 channels, small enough to fine-tune on a laptop."""

from __future__ import annotations

import re
from typing import Any

from protocols.trunks._torchvision import Torchvision, load
from protocols.weights import State, Weights

# Blocks once were flat lists of convolution, BatchNorm and activation; now each convolution
# with an activation is a list of its own. The first block has no expansion.
_OLD = re.compile(r"(features\.(\d+)\.conv)\.(\d)\.(\w+)")
_FIRST = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
_OTHERS = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}


class MobileNetV2(Torchvision):
    """Sandler et al. 2018, arXiv:1801.04381; the map ends in a ReLU6."""

    network = "mobilenet_v2"
    last = "features"
    cut = ("classifier.",)
    channels = 1280

    def set_last_stride(self, stride: int) -> None:
        """Set the stride of the last strided block: 1 gives twice the height and width."""
        block: Any = self.net.get_submodule("features.14")
        block.conv[1][0].stride = (stride, stride)

    @staticmethod
    def rename(state: State) -> State:
        """Return ``state`` with today's keys, if it has the flat blocks of older files."""
        if "features.2.conv.7.weight" not in state:
            return state
        return {_today(key): value for key, value in state.items()}


def build(weights: Weights = None) -> MobileNetV2:
    """Return the trunk with ``weights``, or at random from torch's current generator."""
    return load(MobileNetV2(), weights)


def _today(key: str) -> str:
    old = _OLD.fullmatch(key)
    if old is None:
        return key
    prefix, block, part, rest = old.groups()
    parts = _FIRST if block == "1" else _OTHERS
    return f"{prefix}.{parts.get(part, part)}.{rest}"
