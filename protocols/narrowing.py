"""A method's search space under a protocol that fixes or narrows some of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocols.discovery import Registry
from protocols.errors import InvalidInputError, unknown_name
from protocols.method import Method
from protocols.plugin_code import told
from protocols.protocol import Override, Protocol
from protocols.recipe import Recipe
from protocols.recipe_search import recipe_space
from protocols.searched import search_at
from protocols.space import Choice, Hyperparameter, Integer, Real, Space, declared


def checked(name: str, setting: str, value: Override, registry: Registry) -> Override:
    """Return a change of hyperparameter ``setting`` of method ``name`` in that one's own type.

    Raises:
        UnknownNameError: no such method or hyperparameter.
        InvalidInputError: a value that the hyperparameter does not accept.
    """
    registry.check("method", name)
    own = declared(registry.load("method", name))
    if setting not in own:
        raise unknown_name(f"hyperparameter of {name}", setting, own)
    if not isinstance(value, tuple):
        accepted: Override = own[setting].accept(value)
        return accepted
    found = _narrowed(own[setting], own[setting], value)
    if isinstance(found, Choice):
        return tuple(found.options)
    assert isinstance(found, (Real, Integer))
    return (found.low, found.high)


def space_under(
    protocol: Protocol, name: str, method: type[Method], dataset: str, recipe: Recipe
) -> Space:
    """Return what a search of ``method`` on ``dataset`` may vary under ``protocol``.

    A fixed hyperparameter stands there with its one value, so that it is recorded. Where the
    default lies outside the bounds that were asked for, the nearest bound is taken for it. Of a
    method that trains, what the protocol searches of ``recipe`` follows.
    """
    with told("the search space", method):
        space = method.space(dataset, protocol.search.bounds)
    bounds, batch = protocol.search.bounds, protocol.batch_size
    space = search_at(space, declared(method), method.paper_name, dataset, bounds, batch)
    changes: Mapping[str, Override] = protocol.method_values.get(name, {})
    own = declared(method)
    for setting, value in changes.items():
        here = space.get(setting, own[setting])
        space[setting] = _narrowed(own[setting], here, value)
        space[setting].name = setting
    return {**space, **recipe_space(protocol, recipe)} if method.trains else space


def _narrowed(
    own: Hyperparameter[Any], here: Hyperparameter[Any], value: Override
) -> Hyperparameter[Any]:
    """Return ``here`` with one value, narrower bounds or fewer options; ``own`` checks them."""
    if not isinstance(value, tuple):
        return Choice((own.accept(value),), default=own.accept(value))
    accepted = tuple(own.accept(one) for one in value)
    if isinstance(own, Choice):
        default = here.default if here.default in accepted else accepted[0]
        return Choice(accepted, default=default)
    low, high = _ends(own, accepted)
    default = min(max(here.default, low), high)
    kind = Integer if isinstance(own, Integer) else Real
    log = here.log if isinstance(here, (Real, Integer)) else own.log  # type: ignore[attr-defined]
    return kind(low, high, default=default, log=log)


def _ends(own: Hyperparameter[Any], accepted: tuple[Any, ...]) -> tuple[Any, Any]:
    if len(accepted) != 2 or not accepted[0] < accepted[1]:
        raise InvalidInputError(
            f"{own.name}: met {list(accepted)}, expected [low, high] inside {own.describe()}, or "
            "one value to fix it"
        )
    return accepted[0], accepted[1]
