"""What the four DenseNets share."""

from __future__ import annotations

import re

from torch import Tensor
from torch.nn.functional import relu

from protocols.trunks._torchvision import Torchvision
from protocols.weights import State

# The published files still use the module names of 2017: denselayer1.norm.1.weight.
_OLD = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class DenseNet(Torchvision):
    """Huang et al. 2017; the map is what follows the last ReLU, which is not in ``features``."""

    last = "features"
    cut = ("classifier.",)

    def map(self, images: Tensor) -> Tensor:
        """Return (B, C, H/32, W/32), rounded down."""
        return relu(super().map(images))

    @staticmethod
    def rename(state: State) -> State:
        """Return ``state`` with today's names of the dense layers' parts."""
        return {_OLD.sub(r"\1\2", key): value for key, value in state.items()}
