"""What may be changed in a protocol without Python: each key, what it accepts, and in words.

A key is the place of a value in a :class:`protocols.protocol.Protocol`: ``seeds``,
``image.crop_px``, ``search.trials``. Two kinds of key reach beyond it: ``recipe.lr`` changes the
recipe of the study, ``method.ms.beta`` fixes or narrows a hyperparameter of a method. A change
makes a derived protocol with a hash of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, get_args

from protocols.errors import InvalidInputError
from protocols.protocol import Override, Protocol
from protocols.recipe import BatchNormPolicy, OptimizerName, Recipe
from protocols.recipe_search import SEARCHED, recipe_space

Reader = Callable[[object], Override]


@dataclass(frozen=True)
class Knob:
    """One value of a protocol that may be changed.

    Attributes:
        key: where it stands.
        words: what it is, in one line.
        expects: what it accepts, in words.
        read: returns a given value in the knob's type, or raises ValueError.
    """

    key: str
    words: str
    expects: str
    read: Reader


def whole(least: int) -> tuple[str, Reader]:
    """Accept whole numbers from ``least`` on."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError
        return value

    return f"a whole number of at least {least}", read


def number(low: float, high: float = math.inf, *, above: bool = False) -> tuple[str, Reader]:
    """Accept numbers from ``low`` (only greater ones if ``above``) to ``high``."""

    def read(value: object) -> float:
        found = _number(value)
        if not (low < found if above else low <= found) or found > high:
            raise ValueError
        return found

    start = f"above {low:g}" if above else f"of at least {low:g}"
    return f"a number {start}{'' if math.isinf(high) else f' and at most {high:g}'}", read


def pair(low: float, high: float = math.inf) -> tuple[str, Reader]:
    """Accept two numbers, the smaller first, both above ``low`` and at most ``high``."""

    def read(value: object) -> tuple[float, float]:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError
        first, second = map(_number, value)
        if not low < first <= second <= high:
            raise ValueError
        return first, second

    most = "" if math.isinf(high) else f" and at most {high:g}"
    return f"two numbers like [0.5, 1.0], the smaller first, above {low:g}{most}", read


def one_of(*options: str) -> tuple[str, Reader]:
    """Accept one of a few words."""

    def read(value: object) -> str:
        if value not in options:
            raise ValueError
        return str(value)

    return f"one of {', '.join(options)}", read


def sides() -> tuple[str, Reader]:
    """Accept one side of a square, or the height and width of a rectangle."""
    _, side = whole(8)

    def read(value: object) -> Override:
        if not isinstance(value, (list, tuple)):
            return side(value)
        height, width = (int(side(one)) for one in value)  # type: ignore[arg-type]
        return height if height == width else (height, width)

    return "a side in pixels, or [height, width], each at least 8", read


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _knob(key: str, accepts: tuple[str, Reader], words: str) -> Knob:
    return Knob(key, words, *accepts)


# In the order in which a study file shows them.
KNOBS: dict[str, Knob] = {
    knob.key: knob
    for knob in (
        _knob("seeds", whole(1), "final runs of each cell; verdicts need several"),
        _knob("folds", whole(1), "class-disjoint folds of the training classes"),
        _knob("fold_rule", one_of("mlrc", "kfold"), "how folds are cut, see protocols/splits.py"),
        _knob("params", one_of("search", "published"), "published: the paper's settings"),
        _knob("batch_size", whole(2), "images in a training batch"),
        _knob("sampler", one_of("balanced", "m_per_class"), "how a batch is drawn"),
        _knob("pair_images_per_class", whole(1), "of a class in a batch, if a method draws pairs"),
        _knob("class_images_per_class", whole(1), "the same, if it draws classes"),
        _knob("embedding_size", whole(1), "width of a fold model's embedding"),
        _knob(
            "selection_metric",
            one_of("map_at_r", "precision_at_1", "r_precision"),
            "decides epochs and trials, on validation classes",
        ),
        _knob("precision", one_of("fp32", "bf16"), "bf16: networks in bfloat16, losses in fp32"),
        _knob("threads_per_job", whole(1), "CPU threads of one training; sums depend on them"),
        _knob("eval_batch", whole(1), "images in an evaluation batch; sums depend on it"),
        _knob("retries", whole(0), "further attempts at a job that was lost"),
        _knob("timeout_s", number(0, above=True), "seconds after which a job counts as hung"),
        _knob("match_cost_s", number(0, above=True), "seconds of training under --match-cost"),
        _knob("image.resize_px", whole(8), "shorter side of the stored image"),
        _knob("image.crop_px", sides(), "what a trunk sees: a square's side or [height, width]"),
        _knob("image.area", pair(0, 1), "share of the area that a training crop covers"),
        _knob("image.aspect", pair(0), "width / height of a training crop"),
        _knob("image.flip", number(0, 1), "probability of a horizontal flip in training"),
        _knob("pace.max_steps", whole(1), "most optimiser steps of a training"),
        _knob("pace.steps_per_epoch", whole(1), "steps of what schedules call an epoch"),
        _knob("pace.validate_every", whole(1), "steps between validations"),
        _knob("pace.patience", whole(0), "validations without improvement before stopping"),
        _knob("search.trials", whole(1), "trials of each search; the first is the defaults"),
        _knob("search.sampler", one_of("tpe", "gp", "random"), "Optuna's sampler"),
        _knob("search.startup_trials", whole(1), "trials before the sampler begins to model"),
        _knob("search.bounds", one_of("wide", "narrow"), "of the paper's methods on its datasets"),
        _knob("search.max_failures_in_a_row", whole(1), "a search ends after so many"),
        _knob("recipe.optimizer", one_of(*get_args(OptimizerName)), "optimiser"),
        _knob("recipe.lr", number(0, above=True), "learning rate of trunk and head"),
        _knob("recipe.weight_decay", number(0), "decoupled with adamw, coupled with all others"),
        _knob("recipe.momentum", number(0, 1), "of rmsprop and sgd"),
        _knob("recipe.warmup_steps", whole(0), "the rate rises linearly over so many steps"),
        _knob("recipe.batch_norm", one_of(*get_args(BatchNormPolicy)), "of the trunk"),
        _knob("recipe.clip", number(0, above=True), "largest norm of all gradients together"),
        _knob("recipe.sharpness", number(0, above=True), "radius of SAM: two gradients a step"),
        _knob("recipe.layer_decay", number(0, 1, above=True), "of rates, by layer of the trunk"),
        _knob("recipe.head_first_steps", whole(1), "the trunk waits for so many steps"),
    )
}
# Keys that have a shorter word where a table or a plan says what was changed.
SHORT = {"search.trials": "trials", "search.bounds": "bounds"}
METHOD, RECIPE = "method.", "recipe."
_OWN_BASELINE = (
    "the protocol says which method all others are compared with. To compare two methods with each "
    "other, give them alone to --methods, with an --out of their own. More ways: docs/study.md, "
    "'Two methods against each other'"
)


def read_value(key: str, value: object) -> Override:
    """Return ``value`` in the type of knob ``key``.

    Values of methods come back as they are: :func:`protocols.narrowing.checked` checks them
    against the method.

    Raises:
        InvalidInputError: no such key, or a value that it does not accept.
    """
    if key.startswith(METHOD):
        return _method_value(key, value)
    if key not in KNOBS:
        raise unknown_key(key, SHORT.values())
    knob = KNOBS[key]
    if key.startswith(RECIPE) and isinstance(value, (list, tuple)):
        return _searched(knob, value)
    try:
        return knob.read(value)
    except ValueError as error:
        raise InvalidInputError(f"{key}: met {value!r}, expected {knob.expects}") from error


def unknown_key(key: str, others: Iterable[str]) -> InvalidInputError:
    """Return an error that names the nearest keys, ``others`` that are known there among them."""
    if key == "baseline":
        return InvalidInputError(f"no key 'baseline': {_OWN_BASELINE}")
    near = get_close_matches(key, [k for k in [*KNOBS, *others] if k != key], n=2, cutoff=0.5)
    ends = [known for known in KNOBS if known.rpartition(".")[2] == key]
    found = list(dict.fromkeys([*ends, *near]))
    hint = f" Did you mean {' or '.join(found)}?" if found else ""
    return InvalidInputError(
        f"no key {key!r}.{hint} For all keys: python -m benchmark new-study FILE"
    )


def changed(protocol: Protocol, changes: Mapping[str, Override]) -> Protocol:
    """Return ``protocol`` with the given keys changed; values as :func:`read_value` returns them.

    Values that change nothing leave no trace, in the hash or among the overrides.

    Raises:
        InvalidInputError: values that contradict each other.
    """
    new = {key: value for key, value in changes.items() if value != value_of(protocol, key)}
    found = protocol
    for key, value in new.items():
        found = _with(found, key, value)
    if not new:
        return protocol
    _check(found)
    said = {SHORT.get(key, key): value for key, value in new.items()}
    return replace(found, overrides={**protocol.overrides, **said})


def value_of(protocol: Protocol, key: str) -> Override | None:
    """Return what stands at ``key`` of a protocol; None where nothing is said."""
    head, _, rest = key.partition(".")
    if head == "recipe":
        return protocol.recipe_values.get(rest)
    if head == "method":
        name, _, setting = rest.rpartition(".")
        return protocol.method_values.get(name, {}).get(setting)
    found: Override = getattr(getattr(protocol, head), rest) if rest else getattr(protocol, head)
    return found


def recipe_under(protocol: Protocol, recipe: Recipe) -> Recipe:
    """Return the recipe as the protocol's changes make it."""
    values: dict[str, Any] = {
        name: value
        for name, value in protocol.recipe_values.items()
        if not isinstance(value, tuple)  # searched between its ends
    }
    found = replace(recipe, **values) if values else recipe
    recipe_space(protocol, found)  # refused before anything starts
    return found


def said_by_all(recipes: Sequence[Recipe], key: str, value: Override) -> bool:
    """Return whether ``key`` is of a recipe and all ``recipes`` have this value anyway."""
    head, _, rest = key.partition(".")
    return head == "recipe" and all(getattr(recipe, rest) == value for recipe in recipes)


def _with(protocol: Protocol, key: str, value: Override) -> Protocol:
    head, _, rest = key.partition(".")
    if head == "recipe":
        return replace(protocol, recipe_values={**protocol.recipe_values, rest: value})
    if head == "method":
        name, _, setting = rest.rpartition(".")
        held = protocol.method_values.get(name, {})
        values = {**protocol.method_values, name: {**held, setting: value}}
        return replace(protocol, method_values=values)
    part: Any = {rest: value} if rest else {}
    if head == "pace":  # of datasets with one of their own too
        paces = {name: replace(pace, **part) for name, pace in protocol.paces.items()}
        return replace(protocol, pace=replace(protocol.pace, **part), paces=paces)
    changes: Any = {head: replace(getattr(protocol, head), **part) if rest else value}
    return replace(protocol, **changes)


def _searched(knob: Knob, ends: Sequence[object]) -> Override:
    """Return the two ends that a value of the recipe is searched between."""
    name = knob.key.removeprefix(RECIPE)
    try:
        if name not in SEARCHED or len(ends) != 2:
            raise ValueError
        low, high = map(knob.read, ends)
        if not low < high:  # type: ignore[operator]
            raise ValueError
    except ValueError as error:
        also = ", or [low, high] of such to search, the same for all methods"
        raise InvalidInputError(
            f"{knob.key}: met {list(ends)!r}, expected {knob.expects}"
            f"{also if name in SEARCHED else ''}"
        ) from error
    return (low, high)  # type: ignore[return-value]


def _method_value(key: str, value: object) -> Override:
    name, _, setting = key.removeprefix(METHOD).rpartition(".")
    if not name or not setting:
        raise InvalidInputError(f"{key}: expected method.NAME.HYPERPARAMETER, like method.ms.beta")
    plain = (int, float, str, bool)
    if isinstance(value, plain):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, plain) for v in value):
        return tuple(value)
    raise InvalidInputError(
        f"{key}: met {value!r}, expected one value, which fixes it, or [low, high] or a list of "
        "options, which narrow the search"
    )


def _check(protocol: Protocol) -> None:
    """Raise InvalidInputError where two values of a protocol contradict each other."""
    image = protocol.image
    if max(image.crop_hw) > image.resize_px and min(image.crop_hw) > image.resize_px:
        raise InvalidInputError(
            f"image.crop_px {image.crop_px} is larger than image.resize_px {image.resize_px}, the "
            "shorter side of what is stored: raise image.resize_px too"
        )
    for name, pace in {"": protocol.pace, **protocol.paces}.items():
        if pace.validate_every > pace.max_steps:
            of = f" of {name}" if name else ""
            raise InvalidInputError(
                f"pace.validate_every {pace.validate_every} is more than pace.max_steps "
                f"{pace.max_steps}{of}: a training would never be validated"
            )
    for key in ("pair_images_per_class", "class_images_per_class"):
        images = getattr(protocol, key)
        if protocol.batch_size % images:
            raise InvalidInputError(
                f"batch_size {protocol.batch_size} is not a multiple of {key} {images}"
            )
    if protocol.params == "published" and protocol.method_values:
        raise InvalidInputError("params published takes the paper's settings: no method.* with it")
    if protocol.params == "published" and any(
        isinstance(value, tuple) for value in protocol.recipe_values.values()
    ):
        raise InvalidInputError("params published searches nothing: one value for each recipe.*")
