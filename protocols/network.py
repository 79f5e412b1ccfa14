"""Trunk and method as one module that owns its BatchNorm policy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from protocols.contract import check_built, views_from
from protocols.method import Method, ParameterGroup
from protocols.protocol import Extent, hw
from protocols.reached import Reads, reached
from protocols.recipe import BatchNormPolicy
from protocols.teacher import Teacher
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

    Attributes:
        teacher: the average of trunk and method that a method asks for, None for the others. Only
            a forward pass in training sees it.

    Raises:
        InvalidInputError, PluginError: a method that asks for a teacher cannot have one, names a
            ranking that there is not, or is not built by Method's own ``__init__``.
    """

    def __init__(self, trunk: Trunk, method: Method, batch_norm: BatchNormPolicy) -> None:
        super().__init__()
        self.trunk, self.method, self.batch_norm = trunk, method, batch_norm
        check_built(method)
        _ = method.ranked_by  # a rule that there is not is refused here
        self._frozen = method.trunk == "frozen"
        if self._frozen:
            trunk.requires_grad_(False)
        self.train()  # the policy holds from the start, not from the first change of mode
        self.teacher = None if method.teacher is None else Teacher(trunk, method)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the method's views of (B, 3, H, W) float RGB pixels in 0..255."""
        scaled = self.trunk.scale(pixels)
        views = views_from(self.method, self.trunk(scaled))
        if self.teacher is not None and self.training:
            views = {**views, **self.teacher(scaled)}
        return views

    def begin(self) -> None:
        """Let a teacher start from the weights as they are: a method may have fitted some."""
        if self.teacher is not None:
            self.teacher.follow(self.trunk, self.method, 0.0)

    def follow(self) -> None:
        """Let a teacher follow the step that was taken."""
        if self.teacher is not None:
            self.teacher.follow(self.trunk, self.method)

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

    def deployed(self, extent: Extent) -> list[Tensor]:
        """Return the parameters that an embedding of images of ``extent`` px needs.

        Buffers that the method has fitted count like parameters. Statistics of BatchNorm layers
        do not, as nowhere in the field.
        """
        mode, device = self.training, next(self.parameters()).device
        self.eval()
        pixels = torch.zeros(2, 3, *hw(extent), device=device)
        found: list[Tensor] = [*reached(self, lambda: self(pixels)["embedding"])]
        with torch.no_grad(), Reads() as reads:
            self(pixels)
        self.train(mode)
        return found + [
            buffer
            for module in self.method.modules()
            if not isinstance(module, _BatchNorm)
            for buffer in module.buffers(recurse=False)
            if buffer.is_floating_point() and buffer.untyped_storage().data_ptr() in reads.places
        ]

    def _trunk_norms(self) -> list[_BatchNorm]:
        return [m for m in self.trunk.modules() if isinstance(m, _BatchNorm)]
