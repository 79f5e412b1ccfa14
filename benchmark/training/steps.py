"""One training step after the other: what ``fit`` asks for, and how the CPU does it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from benchmark.training.draws import parts
from benchmark.training.evaluate import autocast
from benchmark.training.gradients import Gradients
from benchmark.training.pictures import drawn, training_images
from benchmark.training.splits import Split
from protocols.contract import losses_of
from protocols.discovery import recipes_with
from protocols.errors import InvalidInputError
from protocols.method import Batch, Draw
from protocols.mixing import mixed, mixing_of
from protocols.network import Network
from protocols.optimizer import groups_under, make_optimizer
from protocols.protocol import Protocol
from protocols.recipe import Recipe
from protocols.two_pass import ALIKE, inexact, two_pass

Labels = NDArray[np.int64]
# largest difference of views in bfloat16, relative to their length, that is rounding
ALIKE_BF16 = 3e-2


class Steps(Interface):
    """What moves a network's weights, one batch at a time."""

    @property
    def how(self) -> str:
        """Return how steps are taken: ``host``, ``graph``, ``trunk: `` or ``eager: `` and why."""
        ...

    @property
    def learnt(self) -> int:
        """Return how many parameters have had a gradient: all others never move."""
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
        mix: draws which images are mixed.
        record_steps: whether steps may be recorded, where a device can.
    """

    network: Network
    train: Split
    labels: Labels
    protocol: Protocol
    recipe: Recipe
    augment: np.random.Generator
    mix: np.random.Generator
    record_steps: bool = True


class HostSteps:
    """Steps on the CPU, one operation after the other."""

    how = "host"

    def __init__(self, training: Training) -> None:
        self._training = training
        groups = groups_under(training.recipe, training.network)
        self._optimizer = make_optimizer(training.recipe, groups)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._sums: dict[str, Tensor] = {}
        self._learnt: set[int] = set()
        self._mixing = mixing_of(training.network.method)
        self._parts, self._gradients = Parts(training), Gradients(training.recipe, training.network)

    @property
    def learnt(self) -> int:
        """Return how many parameters have had a gradient."""
        return size_of(self._optimizer, self._learnt)

    def take(self, draw: Draw, step: int, factor: float) -> None:
        """Take one step down the sum of the losses."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        losses = self._gradients.of_step(step, self._pass(draw, step))
        move(self._training, self._optimizer)
        self._learnt |= with_gradient(self._optimizer)
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, value.new_zeros(())) + value.detach()

    def means(self, count: int) -> dict[str, float]:
        """Return each loss term's mean over the last ``count`` steps."""
        found = {name: float(total) / count for name, total in self._sums.items()}
        self._sums = {}
        return found

    def images(self, draw: Draw) -> Tensor:
        """Return augmented images (B, 3, S, S) of a draw."""
        return self._images(draw)[0]

    def state(self) -> dict[str, Any]:
        """Return moments, sums and which parameters have had a gradient."""
        learnt = sorted(self._learnt)
        return {"moments": moments(self._optimizer), "sums": self._sums, "learnt": learnt}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from them."""
        give_moments(self._optimizer, state["moments"])
        self._sums, self._learnt = dict(state["sums"]), set(state["learnt"])

    def _pass(self, draw: Draw, step: int) -> Callable[[], dict[str, Tensor]]:
        """Return what gives the loss terms of one batch, with their gradients in the parameters."""
        index = np.asarray(draw.index)
        batch = batch_of(self._training, draw, step)
        batch = replace(
            batch,
            labels=torch.from_numpy(self._training.labels[index]),
            index=torch.from_numpy(index),
        )
        if self._parts.several:
            parts = [self._crops(part) for part in self._parts.of(draw)]
            return functools.partial(self._parts.gradients, self._optimizer, parts, batch)
        images, partner, share = self._images(draw)
        return functools.partial(self._whole, images, replace(batch, partner=partner, share=share))

    def _whole(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        views = views_of(self._training, images)
        losses = losses_of(self._training.network.method, views, batch)
        backward(self._optimizer, losses)
        return losses

    def _images(self, draw: Draw) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return augmented images of a draw, and partners and share where they are mixed."""
        images = self._crops(draw)()
        if self._mixing is None:
            return images, None, None
        drawn_now = self._mixing.draw(len(images), self._training.mix)
        partner, share = torch.from_numpy(drawn_now[0]), torch.tensor(drawn_now[1])
        images = mixed(images, partner, share).contiguous(memory_format=torch.channels_last)
        return images, partner, share

    def _crops(self, draw: Draw) -> Callable[[], Tensor]:
        """Draw boxes and flips for the images of a draw; return what crops them."""
        made, index = self._training, np.asarray(draw.index)
        boxes, flips = drawn(made.train, index, made.protocol, made.augment)
        return lambda: training_images(made.train, index, made.protocol, boxes, flips)


class Parts:
    """Losses that see several of the protocol's batches, one of which goes through at a time.

    Attributes:
        several: whether the method wants them so.
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        self._batches = type(training.network.method).wants.batches
        self.several = self._batches > 1
        self._proven = False

    @property
    def why(self) -> str:
        """Return why such steps are not recorded, in words; "" where they are not taken."""
        return f"its loss sees {self._batches} batches, in two passes" if self.several else ""

    def of(self, draw: Draw) -> list[Draw]:
        """Return a draw in parts of the protocol's batch."""
        return parts(draw, self._training.protocol.batch_size)

    def gradients(
        self, optimizer: Optimizer, images: Sequence[Callable[[], Tensor]], batch: Batch
    ) -> dict[str, Tensor]:
        """Return the loss terms of all parts together, with their gradients in the parameters.

        Args:
            optimizer: of the parameters.
            images: gives each part's images, the same whenever asked.
            batch: of all parts together.

        Raises:
            InvalidInputError: parts would not give the gradients of the whole.
        """
        training, method = self._training, self._training.network.method
        if not self._proven:
            self._prove(images[0]())
        optimizer.zero_grad(set_to_none=True)
        return two_pass(
            lambda part: views_of(training, images[part]()),
            len(images),
            lambda views: losses_of(method, views, batch),
        )

    def _prove(self, images: Tensor) -> None:
        """Raise InvalidInputError unless a part gives what its halves give."""
        training = self._training
        alike = ALIKE if training.protocol.precision == "fp32" else ALIKE_BF16
        why = inexact(
            training.network,
            lambda rows: views_of(training, images[rows]),
            len(images),
            alike,
        )
        if why:
            raise InvalidInputError(
                f"its loss sees {self._batches} batches, which is exact only where they can go "
                f"through in parts: {why}. Take a recipe whose batch_norm is frozen_stats "
                f"(--recipes {recipes_with('frozen_stats')[0]}), a trunk and head without dropout "
                "and BatchNorm of their own, or one batch"
            )
        self._proven = True


def moments(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """Return what an optimiser remembers of each parameter, by the parameter's number."""
    found: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return found


def give_moments(optimizer: Optimizer, found: dict[int, dict[str, Any]]) -> None:
    """Give an optimiser what :func:`moments` returned; rates and settings stay its own."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": found})


def batch_of(training: Training, draw: Draw, step: int) -> Batch:
    """Return what is known of a batch before its tensors are there."""
    nothing = torch.empty(0, dtype=torch.int64)
    epoch = step // training.protocol.pace.steps_per_epoch
    return Batch(nothing, nothing, draw.group, step, epoch)


def views_of(training: Training, images: Tensor) -> dict[str, Tensor]:
    """Return the views of augmented images, in the protocol's precision."""
    with autocast(training.protocol, images.device):
        views: dict[str, Tensor] = training.network(images)
    return views


def backward(optimizer: Optimizer, losses: dict[str, Tensor]) -> None:
    """Put the gradients of the sum of the losses in place of those that were there."""
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]


def move(training: Training, optimizer: Optimizer) -> None:
    """Take one step along the gradients, at the optimiser's rates; a teacher follows."""
    if training.recipe.clip is not None:
        torch.nn.utils.clip_grad_norm_(training.network.parameters(), training.recipe.clip)
    optimizer.step()
    training.network.follow()


def with_gradient(optimizer: Optimizer) -> set[int]:
    """Return the numbers of the parameters that have a gradient."""
    return {n for n, p in enumerate(_parameters(optimizer)) if p.grad is not None}


def size_of(optimizer: Optimizer, numbers: set[int]) -> int:
    """Return how many values the parameters of these numbers have."""
    return sum(p.numel() for n, p in enumerate(_parameters(optimizer)) if n in numbers)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
