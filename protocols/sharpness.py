"""Sharpness-aware minimisation (SAM): the gradient from where the loss is highest nearby.

With g the gradient of a batch's loss at weights w and |g| the length of all gradients together, a
step at w is taken along the gradient of the same batch's loss at ``w + radius * g / |g|``.

Source: Foret, Kleiner, Mobahi and Neyshabur, ICLR 2021 (Sharpness-Aware Minimization for
Efficiently Improving Generalization), equation 2 and algorithm 1 with p = 2.

As in the authors' code, BatchNorm statistics follow the first pass alone, both passes draw the same
random numbers, and a limit on the gradients' length holds for the second. Their loss contains
weight decay; here that belongs to the optimiser and does not move the point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from protocols import generators
from protocols.errors import InvalidInputError
from protocols.two_pass import ALIKE

_LEAST = 1e-12  # added to the length: a gradient of nothing but zeros leads nowhere

Losses = dict[str, Tensor]


def sharp_gradients(
    network: nn.Module, radius: float, evaluate: Callable[[], Losses], *, prove: bool = False
) -> Losses:
    """Return the losses at the weights, with the gradients from nearby in the parameters.

    Args:
        network: what moves; its weights are afterwards the bits that they were.
        radius: Euclidean distance of the point whose gradient is taken.
        evaluate: puts a batch's gradients into the parameters and returns its () losses; called
            twice.
        prove: call it once more in between, at the same weights, to see that nothing of the first
            pass is left in the second.

    Raises:
        InvalidInputError: the network keeps state, other than BatchNorm statistics, that changes
            with each pass.
    """
    # While a step is recorded a device's generator cannot be put back. Where a network draws from
    # it, as torchvision's stochastic depth does, the recorded step differs from the ordinary one
    # that it is held against, and ordinary steps are taken.
    device = _device(network)
    before = generators.states(device)
    losses = evaluate()
    after, kept = generators.states(device), _versions(network)
    with _without_statistics(network):
        if prove:
            generators.restore(device, before)
            _check_repeats(losses, evaluate())
        generators.restore(device, before)
        with _at_the_highest(network, radius):
            evaluate()
    generators.restore(device, after)
    moved = [name for name, version in _versions(network).items() if kept.get(name) != version]
    if moved:
        raise _refused(f"changes {moved[0]} with each")
    return losses


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _check_repeats(first: Losses, again: Losses) -> None:
    """Raise InvalidInputError where a pass at the same weights gives other losses."""
    for name, value in first.items():
        value, other = value.detach().double(), again[name].detach().double()
        gap = float((other - value).abs())
        exact = value.device.type == "cpu"
        if gap > (0.0 if exact else ALIKE * float(value.abs())):
            raise _refused(f"gives {name!r} another value in a second pass over the same batch")


def _refused(does: str) -> InvalidInputError:
    return InvalidInputError(
        f"the recipe takes two gradients a step (sharpness), and the method {does}, so that the "
        "second would be of another loss. Choose another recipe or method"
    )


@contextmanager
def _at_the_highest(network: nn.Module, radius: float) -> Iterator[None]:
    """Move the weights along their gradients, and put them back."""
    moving = [p for p in network.parameters() if p.grad is not None]
    lengths = [torch.linalg.vector_norm(p.grad) for p in moving if p.grad is not None]
    with torch.no_grad():
        scale = radius / (torch.linalg.vector_norm(torch.stack(lengths)) + _LEAST)  # ()
        kept = [p.clone() for p in moving]
        for parameter in moving:
            assert parameter.grad is not None
            parameter.add_(parameter.grad * scale)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(moving, kept, strict=True):
                parameter.copy_(value)


@contextmanager
def _without_statistics(network: nn.Module) -> Iterator[None]:
    """Let live BatchNorm layers normalise by their batch and keep their running statistics."""
    live = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    tracked = [layer.track_running_stats for layer in live]
    for layer in live:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, before in zip(live, tracked, strict=True):
            layer.track_running_stats = before


def _versions(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Return which tensor each buffer is and how often it was written, statistics aside.

    Nothing waits for a device: the count is kept on the host.
    """
    return {
        f"{name}.{word}".lstrip("."): (id(buffer), buffer._version)
        for name, module in network.named_modules()
        if not isinstance(module, _BatchNorm)
        for word, buffer in module._buffers.items()
        if buffer is not None
    }
