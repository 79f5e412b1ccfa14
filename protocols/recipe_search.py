"""Values of a recipe that are searched with a method's own, where a protocol says so.

The same ranges hold for every method that trains, within the same number of trials, and the first
trial has the recipe's own values. In a setting such a value stands as ``recipe-lr``, beside the
method's hyperparameters, none of which can have such a name; a method never sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from protocols.errors import InvalidInputError
from protocols.protocol import Protocol
from protocols.recipe import Recipe
from protocols.space import Hyperparameter, Integer, Real, Settings, Space

PREFIX = "recipe-"
WHOLE = ("warmup_steps", "head_first_steps")
LOG = ("lr", "weight_decay", "clip", "sharpness")  # they differ by factors
SEARCHED = (*LOG, *WHOLE, "momentum", "layer_decay")


def recipe_space(protocol: Protocol, recipe: Recipe) -> Space:
    """Return what a search varies of ``recipe``, by the names that settings have.

    Raises:
        InvalidInputError: a range without the recipe's own value, with which a search begins.
    """
    found: Space = {}
    for name, value in protocol.recipe_values.items():
        if isinstance(value, tuple):
            parameter = _parameter(name, value, recipe)
            parameter.name = PREFIX + name
            found[parameter.name] = parameter
    return found


def of_method(settings: Mapping[str, Any]) -> Settings:
    """Return the part of a setting that is the method's."""
    return {name: value for name, value in settings.items() if not name.startswith(PREFIX)}


def recipe_of(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return ``recipe`` with the values that a setting has for it."""
    values: dict[str, Any] = {
        name.removeprefix(PREFIX): value
        for name, value in settings.items()
        if name.startswith(PREFIX)
    }
    return replace(recipe, **values) if values else recipe


def _parameter(name: str, ends: tuple[Any, ...], recipe: Recipe) -> Hyperparameter[Any]:
    (low, high), default = ends, getattr(recipe, name)
    if default is None or not low <= default <= high:
        met = "has none" if default is None else f"has {default:g}"
        raise InvalidInputError(
            f"recipe.{name}: a search in [{low:g}, {high:g}] begins with the recipe's own value, "
            f"and {recipe.name!r} {met}. Choose a range around it, or another recipe"
        )
    if name in WHOLE:
        return Integer(low, high, default=default)
    return Real(low, high, default=default, log=name in LOG and low > 0)
