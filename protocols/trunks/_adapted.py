"""What trunks that hold another one share: its weights stay as they were loaded."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from protocols.errors import InvalidInputError
from protocols.method import Features, Wants
from protocols.trunk import Trunk
from protocols.weights import Weights

Build = Callable[[Weights], Trunk]
"""``inner(weights)`` gives the trunk whose name follows the colon, with its own weights."""


class Adapted(Trunk):
    """A trunk whose own parameters never train; what a subclass adds to it may.

    The inner trunk is in eval mode whatever the mode of the whole: its BatchNorm layers use the
    statistics that they were loaded with, and it drops nothing out. Input scale, widths and what
    it is able to do are the inner trunk's.

    Args:
        inner: the trunk inside; its parameters stop to require gradients.

    Raises:
        InvalidInputError: ``inner`` is such a trunk itself: what it adds would never train.
    """

    def __init__(self, inner: Trunk) -> None:
        super().__init__()
        if isinstance(inner, Adapted):
            raise InvalidInputError(
                f"a {type(self).__name__} trunk holds a trunk as it is, met a "
                f"{type(inner).__name__} one, of which nothing would train. Name one of the two"
            )
        self.inner = inner.requires_grad_(False)
        self.channels, self.pretrained = inner.channels, inner.pretrained
        # The base class declares them per class; here they are the inner trunk's.
        self.__dict__.update(scale=inner.scale, nonnegative=inner.nonnegative)

    def train(self, mode: bool = True) -> Adapted:
        """Switch the mode of what is added; the inner trunk stays in eval mode."""
        super().train(mode)
        self.inner.eval()
        return self

    def map(self, images: Tensor) -> Tensor:
        """Return the inner trunk's map (B, C, H, W)."""
        return self.inner.map(images)

    def forward(self, images: Tensor) -> Features:
        """Return the inner trunk's features of scaled images (B, 3, H, W)."""
        features: Features = self.inner(images)
        return features

    def honour(self, wants: Wants, method: str) -> None:
        """Let the inner trunk make the edits that ``method`` wants, or refuse them."""
        self.inner.honour(wants, method)
        self.stage_count = self.inner.stage_count
