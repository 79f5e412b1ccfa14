"""Ordinary steps on a device: all inputs at fixed places, and no wait.

:mod:`benchmark.training.device_steps` records them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmark.training.evaluate import autocast
from benchmark.training.feed import Feed
from benchmark.training.gradients import Gradients
from benchmark.training.inputs import Inputs
from benchmark.training.steps import (
    Parts,
    Training,
    backward,
    give_moments,
    moments,
    move,
    size_of,
    with_gradient,
)
from protocols.contract import losses_of
from protocols.method import Batch, Draw
from protocols.network import Network
from protocols.optimizer import groups_under, make_optimizer, rate_of


class OrdinarySteps:
    """What ordinary steps and recorded ones on one device share.

    Args:
        training: what its steps share.
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        self._device = next(training.network.parameters()).device
        groups = groups_under(training.recipe, training.network)
        self._optimizer = make_optimizer(training.recipe, groups, self._device)
        self._rates = [rate_of(group, training.recipe) for group in groups]
        self._inputs = Inputs(training, self._device)
        self._sums: dict[str, Tensor] = {}
        self._learnt: set[int] = set()
        self._parts, self._gradients = Parts(training), Gradients(training.recipe, training.network)

    @property
    def learnt(self) -> int:
        """Return how many parameters have had a gradient."""
        return size_of(self._optimizer, self._learnt)

    def means(self, count: int) -> dict[str, float]:
        """Return each loss term's mean over the last ``count`` steps; waits for them once."""
        if not self._sums:
            return {}
        totals = torch.stack(list(self._sums.values())).tolist()
        for total in self._sums.values():
            total.zero_()
        return {n: t / count for n, t in zip(self._sums, totals, strict=True)}

    def images(self, draw: Draw) -> Tensor:
        """Return augmented images (B, 3, S, S) of a draw."""
        feed = self._inputs.feed(host := self._inputs.drawn(draw, 1.0))
        feed.fill(host)
        return self._inputs.crops(feed)

    def state(self) -> dict[str, Any]:
        """Return moments, sums and which parameters have had a gradient; waits for them."""
        learnt = sorted(self._learnt)
        return {"moments": moments(self._optimizer), "sums": self._sums, "learnt": learnt}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from them; recordings are made and proven anew."""
        give_moments(self._optimizer, state["moments"])
        self._sums = {k: v.to(self._device) for k, v in state["sums"].items()}
        self._learnt = set(state["learnt"])

    # Computation: the same code for ordinary steps and for what is recorded.

    def _views(self, network: Network, feed: Feed) -> dict[str, Tensor]:
        images = self._inputs.crops(feed)
        with autocast(self._training.protocol, self._device, cached=False):
            views: dict[str, Tensor] = network(images)
        return views

    def _compute(self, feed: Feed, batch: Batch) -> None:
        """Take a step on what ``feed`` holds."""
        self._move(feed, self._evaluated(feed, batch))

    def _evaluated(self, feed: Feed, batch: Batch) -> dict[str, Tensor]:
        """Put the gradients of a step in the parameters and return its loss terms."""
        network, seen = self._training.network, self._inputs.batch(batch, feed)
        network.method.drawn = self._inputs.noise(feed)

        def evaluate() -> dict[str, Tensor]:
            losses = losses_of(network.method, self._views(network, feed), seen)
            backward(self._optimizer, losses)
            return losses

        losses = self._gradients.of_step(batch.step, evaluate)
        network.method.drawn = ()
        return losses

    def _move(self, feed: Feed, losses: dict[str, Tensor]) -> None:
        """Take a step along the gradients, at the factor that ``feed`` holds, and add up losses."""
        factor = self._inputs.factor(feed)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"].copy_(factor * rate)
        move(self._training, self._optimizer)
        self._learnt |= with_gradient(self._optimizer)
        for name, value in losses.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros((), device=self._device)
            self._sums[name] += value.detach()

    def _in_parts(self, draw: Draw, batch: Batch, factor: float) -> None:
        """Take a step on several of the protocol's batches."""
        hosts = [self._inputs.drawn(part, factor) for part in self._parts.of(draw)]
        batch = self._inputs.batch_of_parts(batch, draw)

        def images(host: list[Tensor]) -> Tensor:
            feed = self._inputs.feed(host)
            feed.fill(host)
            return self._inputs.crops(feed)

        made = [functools.partial(images, host) for host in hosts]
        evaluate = functools.partial(self._parts.gradients, self._optimizer, made, batch)
        losses = self._gradients.of_step(batch.step, evaluate)
        self._move(self._inputs.feed(hosts[-1]), losses)

    def _eager(self, host: list[Tensor], batch: Batch) -> None:
        feed = self._inputs.feed(host)
        feed.fill(host)
        self._compute(feed, batch)

    def _written(self) -> list[Tensor]:
        """Return every tensor that a step writes and the next one reads."""
        state = self._optimizer.state.values()
        moments = [v for values in state for v in values.values() if isinstance(v, Tensor)]
        weights = self._training.network.state_dict(keep_vars=True).values()
        extra = [b for b in self._training.network.buffers()]
        seen = {id(t): t for t in [*weights, *extra, *moments, *self._sums.values()]}
        return list(seen.values())

    @contextmanager
    def _generator_kept(self) -> Iterator[None]:
        """Give the device's random generator its state back at the end."""
        if self._device.type != "cuda":
            yield
            return
        state = torch.cuda.get_rng_state(self._device)
        yield
        torch.cuda.set_rng_state(state, self._device)
