"""A vision transformer of timm with 10 prompts a block, which alone train: prompt10:timm:NAME."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from protocols.errors import InvalidInputError
from protocols.trunk import Trunk
from protocols.trunks._adapted import Adapted, Build
from protocols.trunks.timm import Timm
from protocols.weights import Weights

ARGUMENT = "TRUNK"
RANDOM_START = True
COUNT = 10


class Prompted(nn.Module):
    """A transformer block that also sees prompts of its own; what it makes of them is dropped.

    Args:
        block: takes and gives tokens (B, N, D).
        count: how many prompts.
        width: D.
        bound: prompts start uniform between -bound and bound.
    """

    def __init__(self, block: nn.Module, count: int, width: int, bound: float) -> None:
        super().__init__()
        self.block = block
        self.prompts = nn.Parameter(torch.empty(count, width).uniform_(-bound, bound))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, D): no token's place changes, prompts stand behind the last."""
        prompts = self.prompts.to(tokens.dtype).expand(len(tokens), -1, -1)
        seen: Tensor = self.block(torch.cat([tokens, prompts], dim=1))
        return seen[:, : tokens.shape[1]]


class Prompts(Adapted):
    """Jia et al. 2022, arXiv:2203.12119, VPT-Deep (section 3.2): prompts before every block.

    They start as in the paper's code: uniform, by the rule of Xavier for a patch and a token.

    Args:
        inner: a trunk of timm that is a plain vision transformer.
        count: prompts of each block.

    Raises:
        InvalidInputError: the trunk is something else.
    """

    def __init__(self, inner: Trunk, count: int) -> None:
        super().__init__(inner)
        if not isinstance(inner, Timm) or type(inner.net).__name__ != "VisionTransformer":
            met = inner.name or type(inner).__name__
            raise InvalidInputError(
                f"prompts need a plain vision transformer of timm; trunk {met} is none. Choose "
                "one like timm:vit_small_patch16_224, or lora8, which adapts any trunk"
            )
        net, width = inner.net, inner.channels
        height, breadth = net.patch_embed.patch_size
        bound = math.sqrt(6 / (3 * height * breadth + width))
        net.blocks = nn.Sequential(*(Prompted(block, count, width, bound) for block in net.blocks))


def build(weights: Weights = None, *, inner: Build) -> Prompts:
    """Return the trunk that ``inner`` gives with ``weights``, and prompts from torch's generator.

    Raises:
        InvalidInputError: ``inner`` has no place for prompts, or refuses the weights.
    """
    return Prompts(inner(weights), COUNT)
