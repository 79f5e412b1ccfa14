"""A loss on more images than go through a network at once, by caching the gradients of views.

Parts of a batch are embedded without gradient, the loss is taken once on the joined views, and a
second forward pass of each part sends the views' gradients back. The result is that of one pass
over all, up to rounding, where a row of a view depends on its own image alone.

Source: Gao, Zhang, Han and Callan 2021 (Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Views = dict[str, Tensor]
ALIKE = 1e-3  # largest difference of views, relative to their length, that is rounding in float32


def two_pass(
    forward: Callable[[int], Views], parts: int, losses: Callable[[Views], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return each loss term's value and add the gradients of their sum to all parameters.

    Args:
        forward: gives the views of part n, (rows of the part, ...), the same whenever asked.
        parts: how many there are, in the order of the rows.
        losses: gives () terms from the views of all rows; called once.
    """
    with torch.no_grad():
        seen = [forward(part) for part in range(parts)]
    joined = {name: torch.cat([views[name] for views in seen]).detach() for name in seen[0]}
    for view in joined.values():
        view.requires_grad_(view.is_floating_point())
    values = losses(joined)
    torch.stack(list(values.values())).sum().backward()  # type: ignore[no-untyped-call]
    start = 0
    for part in range(parts):
        views = forward(part)
        end = start + len(next(iter(views.values())))
        sent = [
            (view, gradient[start:end])
            for name, view in views.items()
            if view.requires_grad and (gradient := joined[name].grad) is not None
        ]
        if sent:
            torch.autograd.backward([view for view, _ in sent], [gradient for _, gradient in sent])
        start = end
    return values


def inexact(
    module: nn.Module, forward: Callable[[slice], Views], rows: int, alike: float = ALIKE
) -> str:
    """Return why parts of a batch would not give what the whole gives, "" if they do.

    Two forward passes are taken in the mode that ``module`` is in, of ``rows`` images and of their
    halves. They must agree, draw nothing at random and change nothing. Where they do, everything
    is as before.
    """
    before = {name: value.detach().clone() for name, value in module.state_dict().items()}
    random = _generators()
    half = rows // 2
    with torch.no_grad():
        whole = forward(slice(0, rows))
        halves = [forward(part) for part in (slice(0, half), slice(half, rows))]
    if not all(map(torch.equal, random, _generators())):
        return "its forward pass in training draws at random, as dropout does"
    for name, value in module.state_dict().items():
        if not torch.equal(value, before[name]):
            return f"its forward pass in training changes {name}, as live BatchNorm does"
    for name, view in whole.items():
        if view.ndim == 0 or len(view) != rows:
            return f"view {name!r} has no row for each image"
        parts = torch.cat([views[name] for views in halves])
        apart = (parts.double() - view.double()).norm() / view.double().norm().clamp(min=1e-30)
        if not apart <= alike:
            return f"a row of view {name!r} depends on the other images of the batch"
    return ""


def _generators() -> list[Tensor]:
    """Return the states of torch's generators that a forward pass may draw from."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if started else []
    return [torch.random.get_rng_state(), *cuda]
