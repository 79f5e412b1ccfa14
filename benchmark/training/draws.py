"""Which training images come into which batch: the method's plan, or the protocol's sampler."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.training.evaluate import extract
from benchmark.training.splits import Split
from protocols import batches
from protocols.contract import plan_of
from protocols.errors import InvalidInputError
from protocols.method import Draw, Method
from protocols.network import Network
from protocols.protocol import Protocol

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Streams:
    """Random sources of one training; the same for every method, so runs pair up."""

    batches: np.random.Generator
    augment: np.random.Generator
    plan: np.random.Generator
    mix: np.random.Generator

    def states(self) -> list[dict[str, Any]]:
        """Return where each of them stands, as plain data."""
        return [dict(one.bit_generator.state) for one in self._all]

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Put each of them where it stood when :meth:`states` was asked."""
        for one, state in zip(self._all, states, strict=True):
            one.bit_generator.state = state

    @property
    def pixels(self) -> tuple[np.random.Generator, np.random.Generator]:
        """Return what draws crops, and what draws mixtures of them."""
        return self.augment, self.mix

    @property
    def _all(self) -> tuple[np.random.Generator, ...]:
        return self.batches, self.augment, self.plan, self.mix


@dataclass
class Probe:
    """Answers what a method asks about the training images; counts the images that this takes.

    A method gets :meth:`function`, not this: it is to see views, not the network or the images.
    """

    network: Network
    train: Split
    protocol: Protocol
    images: int = 0

    def __call__(self, view: str) -> NDArray[np.float32]:
        """Return (N, d) rows of a view in index order, in eval mode."""
        self.images += len(self.train)
        return extract(self.network, self.train, self.protocol, view)

    def function(self) -> Callable[[str], NDArray[np.float32]]:
        """Return what a method gets: a plain function of a view's name."""

        def probe(view: str) -> NDArray[np.float32]:
            return self(view)

        return probe


class Draws(Iterator[Draw]):
    """Batches without end: the method's plan, epoch by epoch, or the protocol's sampler.

    Args:
        probe: what a plan may ask of the training images.
        labels: (n,) their classes.
        streams: random sources.
        gradients: of one draw that a step of the recipe takes.

    Attributes:
        probe: see above.
        sampled: batches that the sampler has given.
        planned: whether those of the epoch at hand come from the method's plan.
        price: batches of the protocol that one draw costs.

    Raises:
        InvalidInputError: the method wants batches that the protocol cannot give.
    """

    def __init__(self, probe: Probe, labels: Labels, streams: Streams, gradients: int = 1) -> None:
        protocol, method = probe.protocol, type(probe.network.method)
        per_class = images_per_class(protocol, method)
        draw = batches.SAMPLERS[protocol.sampler]
        self.sampled, self.planned = 0, False
        self.probe, self._labels, self._streams = probe, labels, streams
        self.price = cost(protocol, method, gradients)
        self._most = largest(protocol, method)
        self._sampler = draw(labels, self._most, per_class, streams.batches)
        self._epoch_steps = protocol.pace.steps_per_epoch
        self._batches = self._epochs(0)

    def __next__(self) -> Draw:
        """Return the next batch."""
        return next(self._batches)

    def due(self, step: int) -> bool:
        """Return whether a draw is paid for at ``step``: with the last of the batches it costs."""
        return (step + 1) % self.price == 0

    def between_plans(self, step: int) -> bool:
        """Return whether the batch of ``step`` and all later ones do not need a plan begun before.

        A plan under way is code of the method that cannot be written down.
        """
        return not self.planned or step % self._epoch_steps == 0

    def go_on(self, step: int, sampled: int) -> None:
        """Go on at ``step`` as after ``sampled`` batches of the sampler; only at the start.

        The sampler draws its earlier batches again, so that it stands where it stood.
        """
        for _ in range(sampled):
            next(self._sampler)
        self.sampled = sampled
        epoch, within = divmod(step, self._epoch_steps)
        rest = self._sampled(self._count(epoch, step)) if within else iter(())
        self._batches = itertools.chain(rest, self._epochs(epoch + (within > 0)))

    def _count(self, epoch: int, step: int) -> int:
        """Return how many draws are paid for from ``step`` on to the end of ``epoch``."""
        return (epoch + 1) * self._epoch_steps // self.price - step // self.price

    def _epochs(self, first: int) -> Iterator[Draw]:
        method = self.probe.network.method
        for epoch in itertools.count(first):
            count = self._count(epoch, epoch * self._epoch_steps)
            if not count:
                continue
            plan = plan_of(method, epoch, self.probe.function(), self._streams.plan)
            self.planned = plan is not None
            if plan is None:
                yield from self._sampled(count)
            else:
                yield from _planned(plan, epoch, self._labels, count, self._most)

    def _sampled(self, count: int) -> Iterator[Draw]:
        for index in itertools.islice(self._sampler, count):
            self.sampled += 1
            yield Draw(index)


def contiguous(labels: Labels) -> Labels:
    """Return labels renumbered 0..C-1 in the order of the class ids (proxy losses need it)."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def images_per_class(protocol: Protocol, method: type[Method]) -> int:
    """Return how many images of a class stand in a batch that the protocol draws for a method.

    Raises:
        InvalidInputError: the method wants a number that the batch is no multiple of.
    """
    wanted = method.wants.images_per_class
    if wanted is None:
        return protocol.images_per_class(method.draws)
    if protocol.batch_size % wanted:
        raise InvalidInputError(
            f"it wants {wanted} images of a class in a batch, and a batch of "
            f"{protocol.batch_size} is no multiple of that. Choose another batch_size"
        )
    return wanted


def cost(protocol: Protocol, method: type[Method], gradients: int = 1) -> int:
    """Return how many batches of the protocol, and of its steps, a step of a training costs.

    That is as many as the method's loss sees, for each gradient that the recipe takes of them.

    Raises:
        InvalidInputError: a step that costs more than there is between two validations.
    """
    pace, wanted = protocol.pace, method.wants.batches
    price = wanted * gradients
    if price > min(pace.validate_every, pace.max_steps):
        why = f"its loss sees {wanted} batches" if wanted > 1 else ""
        if gradients > 1:
            why += f"{' and ' if why else ''}its recipe takes {gradients} gradients of a batch"
        raise InvalidInputError(
            f"{why}, so that a step costs {price}, and the protocol "
            f"validates every {pace.validate_every} of {pace.max_steps}. Raise pace.validate_every"
        )
    return price


def largest(protocol: Protocol, method: type[Method]) -> int:
    """Return the most images that one loss of the method may see."""
    return protocol.batch_size * method.wants.batches


def parts(draw: Draw, size: int) -> list[Draw]:
    """Return a draw's images in their order as draws of at most ``size``."""
    index = np.asarray(draw.index)
    return [Draw(index[start : start + size], draw.group) for start in range(0, len(index), size)]


def _planned(
    plan: Iterator[Draw], epoch: int, labels: Labels, count: int, most: int
) -> Iterator[Draw]:
    """Yield ``count`` checked draws of one epoch's plan, of at most ``most`` images each."""
    given, images = 0, len(labels)
    for draw in itertools.islice(plan, count):
        index = np.array(draw.index)  # a copy: what is checked is what is trained on
        if index.ndim != 1 or not index.size or index.min() < 0 or index.max() >= images:
            raise InvalidInputError(
                f"plan of epoch {epoch}: a batch of {index.size} positions, expected some in "
                f"0..{images - 1}"
            )
        if index.size > most:
            raise InvalidInputError(
                f"plan of epoch {epoch}: a batch of {index.size} images, expected at most {most}: "
                "every method trains on as many. Say Wants(batches=...) for a loss on several "
                "batches of the protocol, which costs as many of its steps"
            )
        if len(np.unique(labels[index])) < 2:
            raise InvalidInputError(
                f"plan of epoch {epoch}: a batch of one class only, expected two or more"
            )
        given += 1
        yield Draw(index, draw.group)
    if given < count:
        raise InvalidInputError(f"plan of epoch {epoch}: {given} batches, expected {count}")
