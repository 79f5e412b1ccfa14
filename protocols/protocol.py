"""A protocol: the frozen rules of a comparison. Every number that moves a result is a field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from protocols.errors import InvalidInputError

Plain = int | float | str | bool
Override = Plain | tuple[Plain, ...]
Extent = int | tuple[int, int]  # the side of a square, or height and width


@dataclass(frozen=True)
class ImagePipeline:
    """Every number between a file and a trunk.

    Attributes:
        resize_px: shorter side of the stored image.
        crop_px: side of the square a trunk sees, or its height and width.
        area: smallest and largest share of the area that a training crop covers.
        aspect: smallest and largest width / height of a training crop.
        flip: probability of a horizontal flip in training.
    """

    resize_px: int
    crop_px: Extent
    area: tuple[float, float] = (0.16, 1.0)
    aspect: tuple[float, float] = (0.75, 1.3333333333333333)
    flip: float = 0.5

    @property
    def crop_hw(self) -> tuple[int, int]:
        """Return height and width of what a trunk sees."""
        return hw(self.crop_px)


@dataclass(frozen=True)
class Pace:
    """How long a training lasts.

    Attributes:
        max_steps: most optimiser steps.
        steps_per_epoch: steps of what plans and schedules call an epoch.
        validate_every: steps between validations; step 0 is validated too.
        patience: validations without improvement that are tolerated before stopping.
    """

    max_steps: int
    steps_per_epoch: int
    validate_every: int
    patience: int


@dataclass(frozen=True)
class SearchRule:
    """How a method's hyperparameters are searched, the same for every method.

    Attributes:
        trials: completed trials of each cell; the first is the authors' defaults.
        sampler: ``tpe``, ``gp`` or ``random`` (Optuna's).
        startup_trials: trials before the sampler starts to model, quasi-random under gp.
        bounds: of the Reality Check's methods on its datasets: ``wide`` is where the paper's
            searches ended, ``narrow`` where they began.
        failed_score: score of a trial that diverged or failed; it counts as completed.
        max_failures_in_a_row: a cell stops searching after so many.
    """

    trials: int
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    startup_trials: int = 5
    bounds: Literal["wide", "narrow"] = "wide"
    failed_score: float = 0.0
    max_failures_in_a_row: int = 3


# Methods that leave the trunk as it is: rows of every table of a trunk with weights, which show
# what it can do before anything of it is trained.
FROZEN_ROWS = ("untrained", "centred", "whitened", "lda", "linear_probe")


@dataclass(frozen=True)
class Protocol:
    """Rules of a comparison.

    Attributes:
        name, version: raise the version whenever a number can move.
        summary: one line for lists; not hashed.
        label: a caveat printed with every table; not hashed.
        datasets, trunk, recipe: defaults of the grid.
        reference, pretrained_reference: method of the untouched trunk, a row of every table;
            the second where the trunk has weights, beside :data:`FROZEN_ROWS`.
        baseline: method the others are compared with.
        fold_rule, folds: see :mod:`protocols.splits`.
        image: the image pipeline.
        paces: the pace on datasets that have one of their own.
        params: ``search``, or ``published``: the paper's chosen settings in place of a search.
        sampler: ``balanced`` or ``m_per_class``, see :mod:`protocols.batches`.
        batch_size: images in a training batch.
        pair_images_per_class: images of a class in a batch, for methods that draw pairs.
        class_images_per_class: the same for methods that draw classes.
        embedding_size: width of a fold model's embedding.
        pace: budget of a training.
        search: the search rule.
        seeds: final runs of each cell.
        selection_metric: decides epochs and trials, on validation classes.
        precision: ``fp32``, or ``bf16`` autocast with losses in fp32.
        threads_per_job: CPU threads of one training (sums depend on them).
        eval_batch: images in an evaluation batch (sums depend on it).
        retries: further attempts at a job that crashed or ran out of memory or time.
        timeout_s: seconds after which a job counts as hung.
        match_cost_s: seconds of training for every method under ``--match-cost``; None where
            the protocol compares by steps only.
        budget_s: those seconds where they hold: training ends at the first validation after
            them, if not earlier. The bits then depend on the machine.
        oracle_gap: final runs also score the test classes at every validation, to report what
            selecting on them would have claimed. It moves no other number, so it is no rule,
            but it opens the test classes more often, so the hash tells.
        wants_weights: its trunk is meant to start from weights, so a study must say which, or
            ``none``. It moves no number.
        recipe_values: what is changed in the study's recipe, see :mod:`protocols.knobs`; two
            numbers are searched between, see :mod:`protocols.recipe_search`.
        method_values: by method and hyperparameter, a value that is fixed, or bounds or options
            that narrow its search.
    """

    name: str
    version: int
    summary: str
    datasets: tuple[str, ...]
    trunk: str
    recipe: str
    reference: str
    baseline: str
    folds: int
    image: ImagePipeline
    pace: Pace
    search: SearchRule
    seeds: int
    paces: Mapping[str, Pace] = field(default_factory=dict)
    params: Literal["search", "published"] = "search"
    pretrained_reference: str = "pretrained"
    fold_rule: str = "mlrc"
    sampler: Literal["balanced", "m_per_class"] = "balanced"
    batch_size: int = 32
    pair_images_per_class: int = 4
    class_images_per_class: int = 1
    embedding_size: int = 128
    selection_metric: str = "map_at_r"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads_per_job: int = 1
    eval_batch: int = 256
    retries: int = 1
    timeout_s: float = 86400.0
    match_cost_s: float | None = None
    budget_s: float | None = None
    oracle_gap: bool = False
    label: str = ""
    wants_weights: bool = False
    overrides: Mapping[str, Override] = field(default_factory=dict)
    recipe_values: Mapping[str, Override] = field(default_factory=dict)
    method_values: Mapping[str, Mapping[str, Override]] = field(default_factory=dict)

    def on(self, dataset: str) -> Protocol:
        """Return the protocol as it holds on ``dataset``: with that dataset's own pace."""
        return replace(self, pace=self.paces.get(dataset, self.pace))

    def rules(self) -> dict[str, Any]:
        """Return all that moves a run's number, as plain data.

        Left out are words for people, and what only adds rows, columns or repeats: the grid's
        axes, the number of seeds, the oracle gap. Two folders with equal rules can be
        continued from one another. A budget in seconds is named only where it holds, changes of
        recipe and methods only where there are some.
        """
        aside = ["summary", "label", "overrides", "datasets", "trunk", "recipe", "seeds"]
        aside += ["wants_weights", "oracle_gap", "match_cost_s"]
        aside += [] if self.budget_s is not None else ["budget_s"]
        aside += [name for name in ("recipe_values", "method_values") if not getattr(self, name)]
        return {k: v for k, v in asdict(self).items() if k not in aside}

    def hash(self) -> str:
        """Return 12 hex digits over the rules, the default grid and the number of seeds.

        An oracle gap enters too, where there is one.
        """
        return self._hash

    def rules_hash(self) -> str:
        """Return 12 hex digits over the rules alone."""
        return self._rules_hash

    @cached_property  # asked for again by every row of results/
    def _hash(self) -> str:
        grid = {"datasets": self.datasets, "trunk": self.trunk, "recipe": self.recipe}
        opened = {"oracle_gap": True} if self.oracle_gap else {}
        return digest({**self.rules(), **grid, **opened, "seeds": self.seeds})

    @cached_property
    def _rules_hash(self) -> str:
        return digest(self.rules())

    def images_per_class(self, draws: str) -> int:
        """Return how many images of a class stand in a batch of a ``pairs|classes`` method."""
        return self.pair_images_per_class if draws == "pairs" else self.class_images_per_class

    def matching_cost(self) -> Protocol:
        """Return this protocol with its budget in seconds of training.

        Raises:
            InvalidInputError: the protocol has no such budget.
        """
        if self.match_cost_s is None:
            raise InvalidInputError(
                f"--match-cost: protocol {self.name!r} gives every method the same steps, not the "
                "same seconds. Leave it out, or use a protocol that states match_cost_s"
            )
        if self.oracle_gap:  # watching takes seconds, and would move what it watches
            raise InvalidInputError("--match-cost and --oracle-gap: choose one of the two")
        seconds = f"{self.match_cost_s:g} s of training"
        overrides = {**self.overrides, "match_cost": seconds}
        return replace(self, budget_s=self.match_cost_s, overrides=overrides)

    def derive(self, **changes: int | str | None) -> Protocol:
        """Return this protocol with some of its values replaced: see the keys below.

        What differs from the named protocol is kept in ``overrides`` for people to see; None
        and values that change nothing are left out.
        """
        current: dict[str, int | str] = {
            "trials": self.search.trials,
            "bounds": self.search.bounds,
            "seeds": self.seeds,
            "params": self.params,
            "precision": self.precision,
            "trunk": self.trunk,
            "recipe": self.recipe,
            "oracle_gap": self.oracle_gap,
        }
        new = {k: v for k, v in changes.items() if v is not None and v != current[k]}
        if not new:
            return self
        searched: dict[str, Any] = {k: new[k] for k in ("trials", "bounds") if k in new}
        direct: dict[str, Any] = {k: v for k, v in new.items() if k not in searched}
        direct["search"] = replace(self.search, **searched)
        return replace(self, **direct, overrides={**self.overrides, **new})


def digest(value: object, length: int = 12) -> str:
    """Return the first hex digits of sha256 over ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def hw(extent: Extent) -> tuple[int, int]:
    """Return height and width."""
    return extent if isinstance(extent, tuple) else (extent, extent)


def shown(value: Override) -> str:
    """Return an override as it is typed: ``5``, ``gp``, ``[0.5, 1.0]``."""
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def protocol_line(protocol: Protocol, trunk: str | None = None) -> str:
    """Return what a reader must know under a table, in one line; ``trunk`` if not its own."""
    counts = {"fold": protocol.folds, "trial": protocol.search.trials, "seed": protocol.seeds}
    changed = ", ".join(f"{k} {shown(v)}" for k, v in sorted(protocol.overrides.items()))
    parts = (
        f"{protocol.name} v{protocol.version} {protocol.hash()}",
        protocol.label,
        f"changed: {changed}" if changed else "",
        f"trunk {trunk or protocol.trunk}",
        f"{' x '.join(map(str, dict.fromkeys(protocol.image.crop_hw)))} px",
        *(f"{number} {noun}{'s' * (number != 1)}" for noun, number in counts.items()),
        f"selected by {protocol.selection_metric} on validation classes",
    )
    return " · ".join(part for part in parts if part)
