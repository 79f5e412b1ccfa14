"""The one training loop."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmark.study.records import Metrics
from benchmark.study.selection import improves
from benchmark.training.averaging import Average, renew_batch_norm
from benchmark.training.device_steps import steps_on
from benchmark.training.evaluate import autocast, extract
from benchmark.training.oracle import unwatched
from benchmark.training.splits import Split
from benchmark.training.steps import HostSteps, Steps, Training
from protocols import batches
from protocols.errors import BenchmarkError, InvalidInputError
from protocols.method import Draw
from protocols.network import Network
from protocols.phases import Phase
from protocols.protocol import Protocol
from protocols.recipe import Recipe, Schedule


class NonFiniteError(BenchmarkError):
    """A loss term became NaN or infinite."""


@dataclass(frozen=True)
class Streams:
    """Random sources of one training; the same for every method, so runs pair up."""

    batches: np.random.Generator
    augment: np.random.Generator
    plan: np.random.Generator


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


@dataclass
class Fitted:
    """What a training leaves behind; the network itself then holds the best weights.

    ``candidate`` says which weights those are: the ``raw`` ones of ``best_step``, or the
    ``averaged`` ones. Images trained went forward and backward; ``images_forward`` went forward
    only, for the method's plans and for statistics after averaging. ``phases`` holds the first
    step of each phase, None for one that was not reached. ``how`` says how steps were taken.
    """

    steps: int = 0
    best_step: int = 0
    candidate: str = "raw"
    validation: Metrics = field(default_factory=dict)
    history: list[Metrics] = field(default_factory=list)
    images_trained: int = 0
    images_forward: int = 0
    phases: dict[str, int | None] = field(default_factory=dict)
    how: str = ""


def fit(
    network: Network,
    train: Split,
    validate: Callable[[], Metrics],
    protocol: Protocol,
    recipe: Recipe,
    streams: Streams,
    watch: Callable[[int], None] = unwatched,
) -> Fitted:
    """Train ``network`` and leave it with the weights that validated best.

    The untrained network at step 0 is a candidate. Training stops after ``max_steps``, or when
    more than ``patience`` validations in a row bring no improvement, counted once every phase of
    method and recipe is settled, or at the first validation after the protocol's ``budget_s`` where
    it has one. Under a recipe with averaging, the averaged weights are a further candidate,
    validated once at the end.

    Args:
        network: on its device; changed in place.
        train: the fold's training images.
        validate: returns the network's metrics on the validation classes.
        protocol: budget, batches, image pipeline, precision.
        recipe: optimiser and schedule.
        streams: random sources.
        watch: told the step after every validation, when the network has that step's weights.
            It returns nothing, so nothing here can depend on what it sees.

    Raises:
        NonFiniteError: a term became NaN or infinite; the message names it.
        InvalidInputError: a recipe with averaging under a budget in seconds, or a phase that
            the budget of steps ends before.
    """
    schedule = Schedule(recipe, protocol.pace, _phases(network, protocol))
    fitted, labels = Fitted(), contiguous(train.labels)
    best = _Best(network, validate, schedule, protocol, _seconds(protocol, recipe), watch, fitted)
    steps = make_steps(Training(network, train, labels, protocol, recipe, streams.augment))
    average = Average(network) if recipe.averaging else None
    probe = Probe(network, train, protocol)
    draws = draw_batches(probe, labels, streams)

    for step in itertools.count():
        if average and schedule.collects(step):
            average.add(network)
        if schedule.validates(step) and best.ends_at(step, steps):
            break
        draw = next(draws)
        steps.take(draw, step, schedule.factor(step))
        fitted.images_trained += len(draw.index)
        fitted.images_forward = probe.images

    fitted.phases, fitted.how = schedule.begun(fitted.steps), steps.how
    if not (average and _averaged_is_best(average, best, probe, draws, steps)):
        network.load_state_dict(best.weights)
    return fitted


def make_steps(training: Training) -> Steps:
    """Return what takes the steps of a training, on the device of its network."""
    device = next(training.network.parameters()).device
    return HostSteps(training) if device.type == "cpu" else steps_on(training, device)


@dataclass
class _Best:
    """Validates a network on its way, keeps its best weights, says when the training ends."""

    network: Network
    validate: Callable[[], Metrics]
    schedule: Schedule
    protocol: Protocol
    budget_s: float
    watch: Callable[[int], None]
    fitted: Fitted
    weights: dict[str, Tensor] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def ends_at(self, step: int, steps: Steps) -> bool:
        """Validate before ``step``; return whether the training ends here."""
        fitted = self.fitted
        fitted.history.append(_validated(step, steps, step - fitted.steps, self.validate))
        fitted.steps = step
        self.started += _took(self.watch, step)
        if improves(fitted.history, self.protocol.selection_metric):
            fitted.best_step, fitted.validation = step, _metrics_of(fitted.history[-1])
            self._keep()
        self.schedule.note_validation(step, fitted.best_step)
        late = time.perf_counter() - self.started > self.budget_s
        return late or step >= self.schedule.last

    def _keep(self) -> None:
        """Copy the weights as they are now over those kept before."""
        for name, value in self.network.state_dict().items():
            if name in self.weights:
                self.weights[name].copy_(value)
            else:
                self.weights[name] = value.detach().clone()


def _phases(network: Network, protocol: Protocol) -> Sequence[Phase]:
    method, pace = network.method, protocol.pace
    return method.phases(method.settings, pace.max_steps, pace.steps_per_epoch)


def _took(watch: Callable[[int], None], step: int) -> float:
    """Tell ``watch`` and return the seconds it took: they belong to no training's budget."""
    started = time.perf_counter()
    watch(step)
    return time.perf_counter() - started


def _averaged_is_best(
    average: Average, best: _Best, probe: Probe, draws: Iterator[Draw], steps: Steps
) -> bool:
    """Load and validate the averaged weights, note the result, return whether they won."""
    network, protocol, fitted = best.network, best.protocol, best.fitted
    passes = list(itertools.islice(draws, protocol.pace.steps_per_epoch))
    fitted.images_forward = probe.images + sum(len(draw.index) for draw in passes)
    average.load_into(network)
    with autocast(protocol, next(network.parameters()).device):
        renew_batch_norm(network, map(steps.images, passes))
    averaged = {"step": fitted.steps, "averaged": average.count, **best.validate()}
    fitted.history.append(averaged)
    won = improves(fitted.history, protocol.selection_metric)
    if won:
        fitted.best_step, fitted.validation = fitted.steps, _metrics_of(averaged)
        fitted.candidate = "averaged"
    best.watch(fitted.steps)
    return won


def _seconds(protocol: Protocol, recipe: Recipe) -> float:
    """Return the budget in seconds, infinite where only steps count."""
    if protocol.budget_s is None:
        return math.inf
    if recipe.averaging:
        raise InvalidInputError(
            f"recipe {recipe.name!r} averages over the last steps of a budget; a budget in seconds "
            "does not know them. Leave out --match-cost"
        )
    return protocol.budget_s


def draw_batches(
    probe: Probe, labels: np.ndarray[tuple[int], np.dtype[np.int64]], streams: Streams
) -> Iterator[Draw]:
    """Yield batches without end: the method's plan, epoch by epoch, or the protocol's sampler."""
    method, protocol = probe.network.method, probe.protocol
    per_class = protocol.images_per_class(method.draws)
    draw = batches.SAMPLERS[protocol.sampler]
    sampler = draw(labels, protocol.batch_size, per_class, streams.batches)
    for epoch in itertools.count():
        plan = method.plan(epoch, probe.function(), streams.plan)
        steps = protocol.pace.steps_per_epoch
        if plan is None:
            yield from (Draw(index) for index in itertools.islice(sampler, steps))
        else:
            yield from _planned(plan, epoch, labels, steps)


def contiguous(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return labels renumbered 0..C-1 in the order of the class ids (proxy losses need it)."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _planned(
    plan: object, epoch: int, labels: np.ndarray[tuple[int], np.dtype[np.int64]], steps: int
) -> Iterator[Draw]:
    """Yield ``steps`` checked draws of one epoch's plan."""
    given, images = 0, len(labels)
    for draw in itertools.islice(plan, steps):  # type: ignore[call-overload]
        index = np.asarray(draw.index)
        if not index.size or index.min() < 0 or index.max() >= images:
            raise InvalidInputError(
                f"plan of epoch {epoch}: a batch of {index.size} positions, expected some in "
                f"0..{images - 1}"
            )
        if len(np.unique(labels[index])) < 2:
            raise InvalidInputError(
                f"plan of epoch {epoch}: a batch of one class only, expected two or more"
            )
        given += 1
        yield draw
    if given < steps:
        raise InvalidInputError(f"plan of epoch {epoch}: {given} batches, expected {steps}")


def _validated(step: int, steps: Steps, since: int, validate: Callable[[], Metrics]) -> Metrics:
    """Return one history row: step, mean losses since the last validation, metrics."""
    losses = {f"loss/{name}": mean for name, mean in steps.means(since).items()}
    for name, value in losses.items():
        if not math.isfinite(value):
            raise NonFiniteError(f"{name} is {value} between steps {step - since} and {step}")
    return {"step": step, **losses, **validate()}


def _metrics_of(row: Metrics) -> Metrics:
    words = ("step", "averaged")
    return {k: v for k, v in row.items() if k not in words and not k.startswith("loss/")}
