"""Trunk and method as one module that owns its BatchNorm policy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from protocols.method import Method, ParameterGroup
from protocols.protocol import Extent, hw
from protocols.reached import reached
from protocols.recipe import BatchNormPolicy
from protocols.trunk import Trunk


class Network(nn.Module):
    """Pixels in, views out.

    Args:
        trunk: the network up to its feature map.
        method: what turns features into views.
        batch_norm: for the trunk's BatchNorm layers only. ``live`` trains them;
            ``frozen_stats`` keeps and uses the running statistics while scale and shift
            still train (what the Reality Check's code does). A method's own BatchNorm layers
            are always live. Under a method that trains its head alone, the trunk stays in eval
            mode and none of it trains.
    """

    def __init__(self, trunk: Trunk, method: Method, batch_norm: BatchNormPolicy) -> None:
        super().__init__()
        self.trunk, self.method, self.batch_norm = trunk, method, batch_norm
        self._frozen = method.trunk == "frozen"
        if self._frozen:
            trunk.requires_grad_(False)
        self.train()  # the policy holds from the start, not from the first change of mode

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the method's views of (B, 3, H, W) float RGB pixels in 0..255."""
        views: dict[str, Tensor] = self.method(self.trunk(self.trunk.scale(pixels)))
        return views

    def train(self, mode: bool = True) -> Network:
        """Switch mode; what is frozen stays in eval mode however often this is called."""
        super().train(mode)
        if self._frozen:
            self.trunk.eval()
        if self.batch_norm != "live":
            for layer in self._trunk_norms():
                layer.eval()
        return self

    def groups(self) -> list[ParameterGroup]:
        """Return every trainable parameter in exactly one group, the trunk's first."""
        trunk = [p for p in self.trunk.parameters() if p.requires_grad]
        found = [ParameterGroup("trunk", trunk)] if trunk else []
        return [*found, *self.method.groups()]

    def deployed(self, extent: Extent) -> list[nn.Parameter]:
        """Return the parameters that an embedding of images of ``extent`` px needs."""
        mode, device = self.training, next(self.parameters()).device
        self.eval()
        pixels = torch.zeros(2, 3, *hw(extent), device=device)
        found = reached(self, lambda: self(pixels)["embedding"])
        self.train(mode)
        return found

    def _trunk_norms(self) -> list[_BatchNorm]:
        return [m for m in self.trunk.modules() if isinstance(m, _BatchNorm)]
