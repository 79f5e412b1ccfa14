"""Weighted losses on named views, and parameters that share a learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from protocols import dense
from protocols.blame import written
from protocols.errors import InvalidInputError, PluginError

Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate.

    ``lr`` is absolute (a searched rate); without it the recipe's rate times ``lr_factor``.
    """

    name: str
    parameters: list[nn.Parameter] = field(repr=False)
    lr: float | None = None
    lr_factor: float = 1.0
    decay: bool = True


class Term(nn.Module):
    """One weighted loss on named views.

    Args:
        loss: called as ``loss(*views, labels)``, or ``loss(*views, labels, mined)`` with a
            miner, where ``mined = miner(views[0], labels)``. Its parameters, if any, form a
            group of their own.
        on: the view or views the loss looks at.
        name: how logs and errors call the term.
        weight: factor in the sum.
        miner: selects pairs or triplets, without gradient.
        lr: learning rate of the loss's own parameters; None takes the recipe's times
            ``lr_factor``.
        lr_factor: see ``lr``.
        decay: False keeps weight decay away from the loss's own parameters.
    """

    def __init__(
        self,
        loss: Loss,
        on: str | tuple[str, ...] = "embedding",
        *,
        name: str = "loss",
        weight: float = 1.0,
        miner: Callable[[Tensor, Tensor], object] | None = None,
        lr: float | None = None,
        lr_factor: float = 1.0,
        decay: bool = True,
    ) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner
        self.on = (on,) if isinstance(on, str) else on
        self.name, self.weight = name, weight
        self.lr, self.lr_factor, self.decay = lr, lr_factor, decay

    def forward(self, views: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return weight * loss, a () tensor; losses are computed in float32.

        Raises:
            InvalidInputError: there is no view of a name.
            PluginError: the loss gave something else than a () tensor.
        """
        return self.weight * self._checked(self._value(views, labels))

    def _value(self, views: dict[str, Tensor], labels: Tensor) -> Tensor:
        missing = [name for name in self.on if name not in views]
        if missing:
            raise InvalidInputError(
                f"term {self.name!r} needs view {missing[0]!r}; there are: {', '.join(views)}"
            )
        inputs = [views[name].float() for name in self.on]
        form = None if dense.on_host(labels) else dense.form_of(self.loss, self.miner)
        if form is not None and len(inputs) == 1:
            return form(inputs[0], labels)
        if self.miner is None:
            return self.loss(*inputs, labels)
        with torch.no_grad():
            mined = self.miner(inputs[0].detach(), labels)
        return self.loss(*inputs, labels, mined)

    def _checked(self, value: object) -> Tensor:
        """Return ``value`` if it is a () tensor; only its shape is looked at, nothing waits."""
        if isinstance(value, Tensor):
            if value.ndim == 0:
                return value
            met, advice = f"a tensor of shape {tuple(value.shape)}", "take its mean() or sum()"
        else:
            met, advice = type(value).__name__, "keep the tensor: item() and float() cut gradients"
            if value is None:
                advice = "it ends without return"
        raise PluginError(
            f"term {self.name!r}: {written(self.loss)} returned {met}; expected a tensor of "
            f"shape (): {advice}"
        )

    def group(self) -> ParameterGroup | None:
        """Return the group of the loss's own trainable parameters, None if it has none."""
        own = [p for p in self.parameters() if p.requires_grad]
        return ParameterGroup(self.name, own, self.lr, self.lr_factor, self.decay) if own else None
