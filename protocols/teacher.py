"""A teacher: the running average of a network's weights, whose views a loss may imitate."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from protocols.contract import views_from
from protocols.discovery import recipes_with
from protocols.errors import InvalidInputError, PluginError
from protocols.method import Method

PREFIX = "teacher/"  # before the name of a view that the teacher gives


class Teacher(nn.Module):
    """A copy of trunk and method that follows them and never learns by itself.

    After each step every parameter w of the copy becomes momentum * w + (1 - momentum) * the
    student's; buffers become the student's own. It gives the views of training, from layers in
    eval mode, so that it neither drops values nor changes statistics. Its terms stay behind.

    Args:
        trunk: what turns pixels into features.
        method: in the state in which training begins, with its ``teacher``.

    Raises:
        PluginError: a momentum outside 0 to 1, or a method that takes no step.
        InvalidInputError: a BatchNorm layer is live, so that the student's views depend on batch
            mates and the teacher's would not.

    Source: Tarvainen and Valpola 2017 (Mean teachers), section 2.
    """

    def __init__(self, trunk: nn.Module, method: Method) -> None:
        super().__init__()
        self.momentum = _momentum(method)
        live = [*_live(trunk, "trunk"), *_live(method, "method")]
        if live:
            raise InvalidInputError(
                f"it has a teacher, whose BatchNorm layers would not be the student's: {live[0]} "
                "is live. Take a recipe whose batch_norm is frozen_stats "
                f"(--recipes {recipes_with('frozen_stats')[0]}), a trunk without BatchNorm, and "
                "none in the method"
            )
        self.trunk, self.method = copy.deepcopy((trunk, method))
        self.method.terms = nn.ModuleList()
        self.requires_grad_(False)
        self.train()

    @torch.no_grad()
    def forward(self, inputs: object) -> dict[str, Tensor]:
        """Return ``teacher/NAME`` of each view of training; ``inputs`` are what the trunk takes."""
        views = views_from(self.method, self.trunk(inputs))
        return {f"{PREFIX}{name}": view for name, view in views.items()}

    def train(self, mode: bool = True) -> Teacher:
        """Keep every layer in eval mode, and the method giving the views of training."""
        super().train(False)
        for module in self.modules():
            if isinstance(module, Method):
                module.training = True
        return self

    @torch.no_grad()
    def follow(self, trunk: nn.Module, method: nn.Module, momentum: float | None = None) -> None:
        """Move towards the student's weights, in place; 0 takes them over as they are."""
        kept = self.momentum if momentum is None else momentum
        for own, student in ((self.trunk, trunk), (self.method, method)):
            theirs = dict(student.named_parameters())
            for name, value in own.named_parameters():
                value.lerp_(theirs[name], 1 - kept)
            buffers = dict(student.named_buffers())
            for name, buffer in own.named_buffers():
                buffer.copy_(buffers[name])


def _momentum(method: Method) -> float:
    name, momentum = type(method).__name__, method.teacher
    if not type(method).trains:
        raise PluginError(f"{name}: a teacher follows the steps of a training, and it takes none")
    if type(momentum) not in (int, float) or not 0 <= momentum <= 1:  # type: ignore[operator]
        raise PluginError(
            f"{name}: teacher = {momentum!r}, expected a momentum from 0 to 1, or None for no "
            "teacher"
        )
    return float(momentum)  # type: ignore[arg-type]


def _live(module: nn.Module, name: str) -> list[str]:
    """Return the BatchNorm layers whose statistics are those of the batch, by name."""
    return [
        f"{name}.{path}"
        for path, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and layer.training
    ]
