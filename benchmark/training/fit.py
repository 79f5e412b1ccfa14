"""The one training loop."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from benchmark.study.records import Metrics
from benchmark.study.selection import improves
from benchmark.training import attributes
from benchmark.training.averaging import Average, renew_batch_norm
from benchmark.training.device_steps import steps_on
from benchmark.training.draws import Draws, Probe, Streams, contiguous, cost, parts
from benchmark.training.evaluate import autocast
from benchmark.training.keeper import Keeper, NotAsKeptError, State
from benchmark.training.oracle import unwatched
from benchmark.training.splits import Split
from benchmark.training.steps import HostSteps, Steps, Training
from protocols import generators
from protocols.errors import BenchmarkError, InvalidInputError
from protocols.method import Draw
from protocols.network import Network
from protocols.protocol import Protocol
from protocols.recipe import Recipe, Schedule


class NonFiniteError(BenchmarkError):
    """A loss term became NaN or infinite."""


@dataclass
class Fitted:
    """What a training leaves behind; the network itself then holds the best weights.

    ``candidate`` says which weights those are: the ``raw`` ones of ``best_step``, or the
    ``averaged`` ones. Steps are counted in batches of the protocol, whatever a method's loss sees.
    Images trained went forward and backward; ``images_forward`` went forward only, for the
    method's plans, for losses on several batches, through a teacher and for statistics after
    averaging. ``learnt``
    parameters have had a gradient. ``phases`` holds the first step of each phase, None for one
    that was not reached. ``how`` says how steps were taken.
    """

    steps: int = 0
    best_step: int = 0
    candidate: str = "raw"
    validation: Metrics = field(default_factory=dict)
    history: list[Metrics] = field(default_factory=list)
    images_trained: int = 0
    images_forward: int = 0
    learnt: int = 0
    phases: dict[str, int | None] = field(default_factory=dict)
    how: str = ""


def schedule_of(network: Network, protocol: Protocol, recipe: Recipe) -> Schedule:
    """Return when a training is validated, when its phases begin and when patience may end it."""
    method, pace = network.method, protocol.pace
    phases = method.phases(method.settings, pace.max_steps, pace.steps_per_epoch)
    return Schedule(recipe, pace, phases)


def fit(
    network: Network,
    train: Split,
    validate: Callable[[], Metrics],
    protocol: Protocol,
    recipe: Recipe,
    streams: Streams,
    watch: Callable[[int], None] = unwatched,
    keeper: Keeper | None = None,
    record_steps: bool = True,
) -> Fitted:
    """Train ``network`` and leave it with the weights that validated best.

    The untrained network at step 0 is a candidate. Training stops after ``max_steps``, or when
    more than ``patience`` validations in a row bring no improvement, counted once every phase of
    method and recipe is settled, or at the first validation after the protocol's ``budget_s``.
    A recipe's averaged weights are a further candidate, validated once at the end.

    Args:
        network: on its device; changed in place.
        train: the fold's training images.
        validate: returns the network's metrics on the validation classes.
        protocol: budget, batches, image pipeline, precision.
        recipe: optimiser and schedule.
        streams: random sources.
        watch: told the step after every validation, when the network has that step's weights.
        keeper: keeps checkpoints, and goes on from one if there is one.
        record_steps: whether steps may be recorded, where a device can.

    Raises:
        NonFiniteError: a term became NaN or infinite; the message names it.
        InvalidInputError: averaging under a budget in seconds, or a phase after the last step.
        NotAsKeptError: a checkpoint did not restore this network.
    """
    schedule = schedule_of(network, protocol, recipe)
    fitted, labels = Fitted(), contiguous(train.labels)
    best = _Best(network, validate, schedule, protocol, _seconds(protocol, recipe), watch, fitted)
    made = Training(network, train, labels, protocol, recipe, *streams.pixels, record_steps)
    steps, average = make_steps(made), Average(network) if recipe.averaging else None
    draws = Draws(Probe(network, train, protocol), labels, streams, recipe.gradients)
    course = _Course(best, steps, average, draws, streams)
    resumed = keeper.resume(course) if keeper else None

    for step in itertools.count(resumed or 0):
        if step != resumed:  # else all of this came before the checkpoint
            if average and schedule.collects(step):
                average.add(network)
            if schedule.validates(step) and best.ends_at(step, steps):
                break
            if keeper:
                keeper.before(step, course)
        if draws.due(step):
            draw = next(draws)
            steps.take(draw, step, schedule.factor(step))
            _count(fitted, draw, draws, recipe)

    fitted.phases, fitted.how, fitted.learnt = schedule.begun(fitted.steps), steps.how, steps.learnt
    if not (average and _averaged_is_best(average, best, draws, steps)):
        network.load_state_dict(best.weights)
    return fitted


def make_steps(training: Training) -> Steps:
    """Return what takes the steps of a training, on the device of its network."""
    device = _device(training.network)
    training.network.begin()
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
        fitted, method = self.fitted, type(self.network.method)
        price = cost(self.protocol, method, self.schedule.recipe.gradients)
        taken = step // price - fitted.steps // price
        fitted.history.append(_validated((fitted.steps, step), taken, steps, self.validate))
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


@dataclass
class _Course:
    """All that a training depends on between two steps."""

    best: _Best
    steps: Steps
    average: Average | None
    draws: Draws
    streams: Streams
    before: attributes.Digests = field(default_factory=dict)

    def begin(self) -> None:
        """Note what the network keeps beside its state dict, to see later what changed."""
        self.before = attributes.digests(self.best.network)

    def may_stop(self, step: int) -> bool:
        """Return whether no plan of the method is under way before ``step``."""
        return self.draws.between_plans(step)

    def state(self) -> State:
        """Return everything as tensors and plain data.

        Raises:
            NotPlainError: the network keeps something else.
        """
        best, average, network = self.best, self.average, self.best.network
        kept, now = attributes.changed(network, self.before)
        return {
            "weights": network.state_dict(),
            "attributes": kept,
            "digests": now,
            "best": best.weights,
            "fitted": asdict(best.fitted),
            "elapsed": time.perf_counter() - best.started,
            "schedule": (best.schedule.last, best.schedule.averaging_from),
            "steps": self.steps.state(),
            "average": (average.count, average.mean) if average else None,
            "streams": self.streams.states(),
            "drawn": (self.draws.sampled, self.draws.probe.images),
            "torch": generators.states(_device(network)),
        }

    def restore(self, step: int, state: State) -> None:
        """Give everything the state it had before ``step``.

        Raises:
            NotAsKeptError: something is not what it was.
        """
        best, network, sampled = self.best, self.best.network, state["drawn"][0]
        network.load_state_dict(state["weights"])
        attributes.restore(network, state["attributes"])
        self.steps.restore(state["steps"])
        best.weights = {k: v.to(_device(network)) for k, v in state["best"].items()}
        vars(best.fitted).update(state["fitted"])
        best.started = time.perf_counter() - state["elapsed"]
        best.schedule.last, best.schedule.averaging_from = state["schedule"]
        if self.average:
            self.average.count, mean = state["average"]
            self.average.mean = {k: v.to(_device(network)) for k, v in mean.items()}
        self.draws.go_on(step, sampled)
        self.draws.probe.images = state["drawn"][1]
        if self.streams.states()[0] != state["streams"][0]:
            raise NotAsKeptError("the sampler does not draw the batches that it drew")
        self.streams.restore(state["streams"])
        if other := attributes.other(network, state["attributes"], state["digests"]):
            raise NotAsKeptError(f"{other} is not what it was")
        generators.restore(_device(network), state["torch"])


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device


def _took(watch: Callable[[int], None], step: int) -> float:
    """Tell ``watch`` and return the seconds it took: they belong to no training's budget."""
    started = time.perf_counter()
    watch(step)
    return time.perf_counter() - started


def _averaged_is_best(average: Average, best: _Best, draws: Draws, steps: Steps) -> bool:
    """Load and validate the averaged weights, note the result, return whether they won."""
    network, protocol, fitted = best.network, best.protocol, best.fitted
    drawn = itertools.islice(draws, max(1, protocol.pace.steps_per_epoch // draws.price))
    passes = [part for draw in drawn for part in parts(draw, protocol.batch_size)]
    renewed = sum(len(draw.index) for draw in passes)
    fitted.images_forward = _forward_only(fitted, draws) + renewed
    average.load_into(network)
    with autocast(protocol, _device(network)):
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


def _count(fitted: Fitted, draw: Draw, draws: Draws, recipe: Recipe) -> None:
    """Add a draw to the images that a training has cost, once for each gradient of it."""
    fitted.images_trained += len(draw.index) * recipe.gradients
    fitted.images_forward = _forward_only(fitted, draws)


def _forward_only(fitted: Fitted, draws: Draws) -> int:
    """Return the images that plans asked for, that two passes embed first, and a teacher's."""
    network = draws.probe.network
    twice = network.method.wants.batches > 1
    taught = 0 if network.teacher is None else 1 + twice
    return draws.probe.images + (twice + taught) * fitted.images_trained


def _validated(
    between: tuple[int, int], taken: int, steps: Steps, validate: Callable[[], Metrics]
) -> Metrics:
    """Return one history row: step, mean losses of the ``taken`` steps before it, metrics."""
    start, step = between
    losses = {f"loss/{name}": mean for name, mean in steps.means(taken).items()}
    for name, value in losses.items():
        if not math.isfinite(value):
            raise NonFiniteError(f"{name} is {value} between steps {start} and {step}")
    return {"step": step, **losses, **validate()}


def _metrics_of(row: Metrics) -> Metrics:
    words = ("step", "averaged")
    return {k: v for k, v in row.items() if k not in words and not k.startswith("loss/")}
