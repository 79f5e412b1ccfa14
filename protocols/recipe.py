"""A recipe: optimiser, schedule, averaging and BatchNorm policy, the same for a whole table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from protocols.errors import InvalidInputError
from protocols.phases import Phase, first_step
from protocols.protocol import Pace

# Fields that came after the first records.
_ADDED = ("decay", "cosine", "sharpness", "layer_decay", "head_first_steps")

BatchNormPolicy = Literal["live", "frozen_stats"]
OptimizerName = Literal["adam", "adamw", "radam", "rmsprop", "sgd"]


@dataclass(frozen=True)
class Cycle:
    """A triangular cyclical learning rate (Smith, WACV 2017), in epochs of the protocol.

    Attributes:
        half_epochs: epochs from the low to the high rate; a cycle is twice that.
        low, high: factors on every group's own rate, so that ratios between groups stay.
    """

    half_epochs: int
    low: float = 0.1
    high: float = 1.0


@dataclass(frozen=True)
class Averaging:
    """Stochastic weight averaging (Izmailov et al., UAI 2018).

    Attributes:
        start: share of max_steps after which averaging begins, or earlier when patience is
            over: the phase then starts instead of the training ending.
        factor: constant rate of the phase, as a factor on every group's own rate.
        anneal_epochs: epochs of the linear way to that rate.
    """

    start: float = 0.75
    factor: float = 0.5
    anneal_epochs: int = 1


@dataclass(frozen=True)
class Decay:
    """A rate that falls exponentially, from 1 to ``factor``, and stays there.

    Attributes:
        start, end: shares of max_steps between which it falls; equal for one drop.
        factor: of every group's own rate in the end.
    """

    start: float
    end: float
    factor: float


@dataclass(frozen=True)
class Cosine:
    """A rate that falls along half a cosine from the end of the warm-up to the end of the budget.

    Source: Loshchilov and Hutter, ICLR 2017 (SGDR), equation 5, with one period and no restart.

    Attributes:
        end: factor of every group's own rate that it falls to.
    """

    end: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How parameters move. A method never sees it.

    Attributes:
        optimizer: ``adam``, ``adamw``, ``radam``, ``rmsprop`` or ``sgd``.
        lr: learning rate of trunk and head.
        weight_decay: decoupled with adamw, coupled with all others.
        momentum: of rmsprop and sgd; the adam family keeps its usual betas.
        warmup_steps: the rate rises linearly over so many steps.
        batch_norm: policy of the trunk's BatchNorm layers.
        cycle: a cyclical rate; validation and patience then look at its minima only.
        averaging: the averaged weights are a candidate of their own.
        clip: largest norm of all gradients together, None for no limit.
        decay: a rate that falls towards the end; not together with a cycle or averaging.
        cosine: another way to fall, under the same condition.
        sharpness: radius of sharpness-aware minimisation (SAM), see
            :mod:`protocols.sharpness`. A step takes two gradients of one batch and costs two of
            the budget's steps, so that a training sees no more images than under other recipes.
        layer_decay: factor from each layer of the trunk to the one below it, on its rate; the
            last layer has this factor, the method's own parameters have none. See
            :mod:`protocols.layers` for what a layer is.
        head_first_steps: for so many steps the trunk's parameters get no gradient and stay;
            its BatchNorm statistics follow ``batch_norm`` meanwhile.

    Raises:
        InvalidInputError: an unknown optimiser, two rules for one rate, or a number out of range.
    """

    name: str
    summary: str
    optimizer: OptimizerName
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    warmup_steps: int = 0
    batch_norm: BatchNormPolicy = "frozen_stats"
    cycle: Cycle | None = None
    averaging: Averaging | None = None
    clip: float | None = None
    decay: Decay | None = None
    cosine: Cosine | None = None
    sharpness: float | None = None
    layer_decay: float | None = None
    head_first_steps: int | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in get_args(OptimizerName):
            raise InvalidInputError(
                f"recipe {self.name!r}: optimizer {self.optimizer!r}, expected one of "
                f"{', '.join(get_args(OptimizerName))}"
            )
        falls = [name for name in ("decay", "cosine") if getattr(self, name)]
        if len(falls) > 1 or (falls and (self.cycle or self.averaging)):
            others = "cosine" if len(falls) > 1 else "a cycle or averaging"
            raise InvalidInputError(
                f"recipe {self.name!r}: {falls[0]} and {others} both set the rate; keep one"
            )
        for name, low, high, expected in (
            ("sharpness", 0, math.inf, "a radius above 0"),
            ("layer_decay", 0, 1, "a factor above 0 and at most 1"),
            ("head_first_steps", 0, math.inf, "a whole number of at least 1"),
        ):
            value = getattr(self, name)
            if value is not None and not (low < value <= high and value < math.inf):
                raise InvalidInputError(
                    f"recipe {self.name!r}: {name} {value!r}, expected {expected}, or None"
                )

    @property
    def gradients(self) -> int:
        """Return how many gradients of a batch a step takes; it costs as many of the budget's."""
        return 1 if self.sharpness is None else 2

    def values(self) -> dict[str, Any]:
        """Return all that moves a number, as plain data.

        A field that was added after the first records is left out where it is not used, so that
        cells which it does not concern keep their ids.
        """
        found = asdict(self)
        return {k: v for k, v in found.items() if k not in _ADDED or v is not None}

    def phases(self, pace: Pace) -> tuple[Phase, ...]:
        """Return what the recipe must have done before a training may stop.

        Averaging is not among them: it begins where patience is over, in place of the end.
        """
        found = []
        if self.head_first_steps:
            found.append(Phase("whole network", self.head_first_steps))
        if self.warmup_steps:
            found.append(Phase("full rate", self.warmup_steps))
        if self.cosine:
            found.append(Phase("cosine", self.warmup_steps, settled=pace.max_steps))
        if self.decay:
            start, end = (first_step(s, pace.max_steps) for s in (self.decay.start, self.decay.end))
            found.append(Phase("decay", start, settled=end))
        return tuple(found)


class Schedule:
    """When a training validates, averages and ends, and its rate at every step.

    Patience counts from the last improvement, but not before every phase is settled: until then
    a training cannot stop early. The budget of steps is the same with and without phases.

    Args:
        recipe: sets the rate; its warm-up and decay are phases.
        pace: the budget.
        phases: those of the method.

    Attributes:
        last: the step after which training ends; moves when patience is over.
        averaging_from: the step at which averaging begins, None as long as it has not.
        interval: steps between validations: the protocol's, or one cycle.
        phases: the method's and the recipe's.

    Raises:
        InvalidInputError: a budget that is not a whole number of cycles, or that ends before
            a phase has begun.
    """

    def __init__(self, recipe: Recipe, pace: Pace, phases: Sequence[Phase] = ()) -> None:
        self.recipe, self.pace = recipe, pace
        self.last = pace.max_steps
        self.averaging_from: int | None = None
        self.interval = pace.validate_every
        self.phases = (*phases, *recipe.phases(pace))
        self._patience_from = max((phase.may_stop_from for phase in self.phases), default=0)
        self._span = 0
        if recipe.cycle:
            self.interval = 2 * recipe.cycle.half_epochs * pace.steps_per_epoch
        if recipe.averaging:
            self._span = pace.max_steps - int(recipe.averaging.start * pace.max_steps)
        self._check_cycles()
        self._check_phases()

    @property
    def averaging_at_latest(self) -> int | None:
        """Return the step at which averaging begins if patience never ends; None without it."""
        return self.pace.max_steps - self._span if self.recipe.averaging else None

    @property
    def earliest_stop(self) -> int:
        """Return the step at which a training ends that never improves."""
        validations = self._patience_from // self.interval + self.pace.patience + 1
        free = self.pace.max_steps - self._span
        return min(validations * self.interval, free) + self._span

    def begun(self, steps: int) -> dict[str, int | None]:
        """Return the first step of each phase of a training of ``steps``, None if not reached."""
        found = {p.name: p.begins if p.begins < steps else None for p in self.phases}
        return {**found, **({"averaging": self.averaging_from} if self.recipe.averaging else {})}

    def validates(self, step: int) -> bool:
        """Return whether the network is validated before ``step``."""
        return step % self.interval == 0 or step == self.last

    def note_validation(self, step: int, best_step: int) -> None:
        """Let patience decide: averaging begins, or training ends here."""
        if self.averaging_from is not None:
            return
        waited = step - max(best_step, self._patience_from)
        over = waited / self.interval > self.pace.patience
        if self.recipe.averaging is None:
            self.last = step if over else self.last
        elif over or step >= self.pace.max_steps - self._span:
            self.averaging_from, self.last = step, step + self._span

    def collects(self, step: int) -> bool:
        """Return whether the weights before ``step`` enter the average."""
        start = self.averaging_from
        if start is None or step <= start:
            return False
        return (step - start) % self._collect_every() == 0

    def factor(self, step: int) -> float:
        """Return what every group's own rate is multiplied with at ``step``."""
        if step < self.recipe.warmup_steps:
            return (step + 1) / self.recipe.warmup_steps
        if self.recipe.cycle:
            return self._triangle(self.recipe.cycle, step)
        if self.recipe.cosine:
            return self._along_cosine(self.recipe.cosine, step)
        if self.recipe.decay:
            return self._fallen(self.recipe.decay, step / self.pace.max_steps)
        averaging = self.recipe.averaging
        if averaging and self.averaging_from is not None:
            anneal = averaging.anneal_epochs * self.pace.steps_per_epoch
            way = min(1.0, (step - self.averaging_from) / anneal) if anneal else 1.0
            return way * averaging.factor + (1 - way)
        return 1.0

    def _triangle(self, cycle: Cycle, step: int) -> float:
        within = step % self.interval
        height = 1 - abs(2 * within / self.interval - 1)
        return cycle.low + (cycle.high - cycle.low) * height

    def _along_cosine(self, cosine: Cosine, step: int) -> float:
        start = self.recipe.warmup_steps
        way = (step - start) / (self.pace.max_steps - start)
        return cosine.end + (1 - cosine.end) * (1 + math.cos(math.pi * way)) / 2

    def _fallen(self, decay: Decay, share: float) -> float:
        if share < decay.start:
            return 1.0
        if share >= decay.end:
            return decay.factor
        way: float = (share - decay.start) / (decay.end - decay.start)
        return float(decay.factor**way)

    def _check_cycles(self) -> None:
        steps, name = self.pace.max_steps, self.recipe.name
        if self.recipe.cycle and (steps % self.interval or self._span % self.interval):
            raise InvalidInputError(
                f"recipe {name!r}: {steps} steps, {self._span} of them averaged, "
                f"must be whole cycles of {self.interval} steps"
            )
        if self.recipe.averaging and self._span < self._collect_every():
            raise InvalidInputError(
                f"recipe {name!r}: averaging lasts {self._span} steps and would collect "
                f"nothing; it needs {self._collect_every()}"
            )

    def _check_phases(self) -> None:
        """Raise InvalidInputError for a phase that cannot begin, or only while weights average.

        Averaging over a change of phase would blend weights that serve different losses.
        """
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise InvalidInputError(f"phases named {names}, expected distinct names")
        latest = self.averaging_at_latest
        limit = self.pace.max_steps if latest is None else latest
        what = (
            "training ends" if latest is None else f"recipe {self.recipe.name!r} averages weights"
        )
        for phase in self.phases:
            if phase.begins >= limit:
                raise InvalidInputError(
                    f"phase {phase.name!r} begins at step {phase.begins}, but {what} at step "
                    f"{limit}. Choose a longer protocol or another recipe"
                )

    def _collect_every(self) -> int:
        return self.interval if self.recipe.cycle else self.pace.steps_per_epoch
