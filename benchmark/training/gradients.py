"""The gradients that a recipe takes a step along: of which parameters, and from where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from protocols.network import Network
from protocols.recipe import Recipe
from protocols.sharpness import Losses, sharp_gradients

Evaluate = Callable[[], Losses]


class Gradients:
    """What a recipe makes of the gradients of a network's batches."""

    def __init__(self, recipe: Recipe, network: Network) -> None:
        self._recipe, self._network = recipe, network
        self._proven = False

    def head_alone(self, step: int) -> bool:
        """Return whether the trunk stays as it is at ``step``."""
        return step < (self._recipe.head_first_steps or 0)

    def of_step(self, step: int, evaluate: Evaluate) -> Losses:
        """Return a batch's loss terms, with the gradients for its step in the parameters.

        Args:
            step: 0-based, in batches of the protocol.
            evaluate: puts a batch's gradients in the parameters' and returns its loss terms.

        Raises:
            InvalidInputError: the method keeps state that a second gradient would change.
        """
        with self.moving(step):
            if self._recipe.sharpness is None:
                return evaluate()
            first, self._proven = not self._proven, True
            return sharp_gradients(self._network, self._recipe.sharpness, evaluate, prove=first)

    @property
    def several(self) -> bool:
        """Return whether a step takes more than one gradient."""
        return self._recipe.sharpness is not None

    def moving(self, step: int) -> AbstractContextManager[None]:
        """Return a context in which nothing needs a gradient but what moves at ``step``."""
        return self._trunk_still() if self.head_alone(step) else nullcontext()

    @contextmanager
    def _trunk_still(self) -> Iterator[None]:
        """Keep gradients away from the trunk."""
        moving = [p for p in self._network.trunk.parameters() if p.requires_grad]
        for parameter in moving:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in moving:
                parameter.requires_grad_(True)
