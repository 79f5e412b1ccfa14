"""One training step after the other: what ``fit`` asks for, and how the CPU does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from benchmark.training.evaluate import autocast
from benchmark.training.pictures import training_images
from benchmark.training.splits import Split
from protocols.method import Batch, Draw
from protocols.network import Network
from protocols.optimizer import make_optimizer
from protocols.protocol import Protocol
from protocols.recipe import Recipe

Labels = NDArray[np.int64]


class Steps(Interface):
    """What moves a network's weights, one batch at a time."""

    @property
    def how(self) -> str:
        """Return how steps are taken: ``host``, ``graph``, or ``eager: `` and why."""
        ...

    def take(self, draw: Draw, step: int, factor: float) -> None:
        """Take one step on ``draw``; ``factor`` multiplies every group's own rate."""
        ...

    def means(self, count: int) -> dict[str, float]:
        """Return each loss term's sum since the last call, over ``count``; may wait."""
        ...

    def images(self, draw: Draw) -> Tensor:
        """Return augmented images (B, 3, S, S) of a draw, on the network's device."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what later steps depend on beside the network: moments, sums of losses."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; only before any step was taken."""
        ...


@dataclass(frozen=True)
class Training:
    """What all steps of a training share.

    Attributes:
        network: on its device; changed in place.
        train: the fold's training images.
        labels: (n,) their classes, 0-based among those of the fold.
        protocol: image pipeline, precision, pace.
        recipe: optimiser, clipping.
        augment: draws boxes and flips.
    """

    network: Network
    train: Split
    labels: Labels
    protocol: Protocol
    recipe: Recipe
    augment: np.random.Generator


class HostSteps:
    """Steps on the CPU, one operation after the other."""

    how = "host"

    def __init__(self, training: Training) -> None:
        self._training = training
        self._optimizer = make_optimizer(training.recipe, training.network.groups())
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._sums: dict[str, Tensor] = {}

    def take(self, draw: Draw, step: int, factor: float) -> None:
        """Take one step down the sum of the losses."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        losses = train_step(self._training, draw, step)
        descend(self._training, self._optimizer, losses)
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, value.new_zeros(())) + value.detach()

    def means(self, count: int) -> dict[str, float]:
        """Return each loss term's mean over the last ``count`` steps."""
        found = {name: float(total) / count for name, total in self._sums.items()}
        self._sums = {}
        return found

    def images(self, draw: Draw) -> Tensor:
        """Return augmented images (B, 3, S, S) of a draw."""
        made, index = self._training, np.asarray(draw.index)
        return training_images(made.train, index, made.protocol, made.augment)

    def state(self) -> dict[str, Any]:
        """Return moments and sums."""
        return {"moments": moments(self._optimizer), "sums": self._sums}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from them."""
        give_moments(self._optimizer, state["moments"])
        self._sums = dict(state["sums"])


def moments(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """Return what an optimiser remembers of each parameter, by the parameter's number."""
    found: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return found


def give_moments(optimizer: Optimizer, found: dict[int, dict[str, Any]]) -> None:
    """Give an optimiser what :func:`moments` returned; rates and settings stay its own."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": found})


def train_step(training: Training, draw: Draw, step: int) -> dict[str, Tensor]:
    """Return the loss terms of one batch; views in the protocol's precision, losses in fp32."""
    index = np.asarray(draw.index)
    images = training_images(training.train, index, training.protocol, training.augment)
    with autocast(training.protocol, images.device):
        views = training.network(images)
    batch = Batch(
        labels=torch.from_numpy(training.labels[index]),
        index=torch.from_numpy(index),
        group=draw.group,
        step=step,
        epoch=step // training.protocol.pace.steps_per_epoch,
    )
    return training.network.method.losses(views, batch)


def descend(training: Training, optimizer: Optimizer, losses: dict[str, Tensor]) -> None:
    """Take one step down the sum of the losses, at the optimiser's rates."""
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    if training.recipe.clip is not None:
        torch.nn.utils.clip_grad_norm_(training.network.parameters(), training.recipe.clip)
    optimizer.step()
