"""Any trunk as it was loaded, in eval mode: only what a method adds trains. frozen:resnet50."""

from __future__ import annotations

from protocols.trunks._adapted import Adapted, Build
from protocols.weights import Weights

ARGUMENT = "TRUNK"


class Frozen(Adapted):
    """None of its parameters train; they count as deployed and not as trained."""


def build(weights: Weights = None, *, inner: Build) -> Frozen:
    """Return the trunk that ``inner`` gives with ``weights``, kept as it is.

    Raises:
        InvalidInputError: ``inner`` is of this kind already, or refuses the weights.
    """
    return Frozen(inner(weights))
