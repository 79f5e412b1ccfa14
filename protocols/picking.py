"""What a plugin's module gives for its name: a method's class, a recipe, a protocol, itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from protocols.errors import PluginError


def _method_class(module: ModuleType, name: str) -> type:
    """Return the one Method subclass that ``module`` defines."""
    from protocols.method import Method  # here: listing names must not import torch

    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise PluginError(f"method {name!r}: expected one Method subclass in its file, met {names}")
    return found[0]


def _attribute(attribute: str) -> Callable[[ModuleType, str], Any]:
    def pick(module: ModuleType, name: str) -> Any:
        if not hasattr(module, attribute):
            raise PluginError(f"{name!r} ({module.__file__}): expected it to define {attribute}")
        return getattr(module, attribute)

    return pick


PICK: dict[str, Callable[[ModuleType, str], Any]] = {
    "method": _method_class,
    "recipe": _attribute("RECIPE"),
    "protocol": _attribute("PROTOCOL"),
    "trunk": lambda module, name: module,
    "dataset": lambda module, name: module,
}
