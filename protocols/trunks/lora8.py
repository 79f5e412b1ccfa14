"""Any trunk with low-rank adapters of rank 8, which alone train: lora8:timm:NAME."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from protocols.errors import InvalidInputError
from protocols.trunk import Trunk
from protocols.trunks._adapted import Adapted, Build
from protocols.weights import Weights

ARGUMENT = "TRUNK"
RANK = 8


class LowRank(nn.Module):
    """A weight seen with a product of two thin matrices added to it.

    Args:
        weight: (rows, ...) as it was loaded; what follows its first axis counts as one.
        rank: columns of the left matrix and rows of the right one.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        self.down = nn.Parameter(weight.new_empty(rank, columns))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as torch starts a linear layer

    def forward(self, weight: Tensor) -> Tensor:
        """Return ``weight`` plus the product: the same bits before the first step."""
        return weight + (self.up @ self.down).view(weight.shape)


class LoRA(Adapted):
    """Hu et al. 2022, arXiv:2106.09685, section 4.1, with alpha equal to the rank (scale 1).

    Adapted are all linear layers and all convolutions that are not split into groups, where the
    two matrices together are smaller than the weight. Biases, norms and embeddings stay. The left
    matrix starts at zero, so the features begin as the inner trunk's.

    Args:
        inner: the trunk inside.
        rank: of the adapters.

    Raises:
        InvalidInputError: the trunk has no layer that an adapter of this rank is smaller than.
    """

    def __init__(self, inner: Trunk, rank: int) -> None:
        super().__init__(inner)
        layers = [m for m in inner.modules() if _takes(m, rank)]
        for layer in layers:
            weight = layer.get_parameter("weight")
            # torch would run it once more to compare shapes; that costs as much as all the rest.
            parametrize.register_parametrization(
                layer, "weight", LowRank(weight.detach(), rank), unsafe=True
            )
        if not layers:
            raise InvalidInputError(
                f"a trunk of rank {rank} adapters needs linear layers, or convolutions without "
                f"groups, that are larger; {type(inner).__name__} has none. Choose another trunk"
            )


def build(weights: Weights = None, *, inner: Build) -> LoRA:
    """Return the trunk that ``inner`` gives with ``weights``, and adapters from torch's generator.

    Raises:
        InvalidInputError: ``inner`` cannot be adapted, or refuses the weights.
    """
    return LoRA(inner(weights), RANK)


def _takes(layer: nn.Module, rank: int) -> bool:
    """Say whether a layer has a weight that is larger than its two matrices."""
    if not isinstance(layer, nn.Linear | nn.Conv2d) or getattr(layer, "groups", 1) != 1:
        return False
    rows, columns = len(layer.weight), layer.weight[0].numel()
    return rank * (rows + columns) < torch.numel(layer.weight)
