"""Where in a plugin or a method something is written or went wrong, for messages: file and line."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from protocols.errors import in_words

PLUGIN = "dml_plugin_"  # begins the name of the module that a plugin file becomes
_OTHERS = (PLUGIN, "protocols.methods.", "protocols.trunks.")


def written(function: Callable[..., Any]) -> str:
    """Return what a function is called and where it is written, as far as it says.

    For example ``Mine.hinge (mine.py:14)``; of an object that can be called, its class.
    """
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", None)
    return f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else name


def called(value: object) -> str:
    """Return what a value is called in a message: ``None``, ``Term``, ``function hinge``."""
    name = getattr(value, "__name__", "")
    return "None" if value is None else f"{type(value).__name__} {name}".strip()


def modules_of(base: type) -> set[str]:
    """Return the modules of all classes that are known to inherit from ``base``."""
    found: set[str] = set()
    inheriting: type
    for inheriting in base.__subclasses__():
        found |= {inheriting.__module__, *modules_of(inheriting)}
    return found


def raised(error: BaseException, also: Collection[str] = ()) -> str:
    """Return file and line of the innermost call in a plugin or a method, "" if there is none.

    A line of a library or of the runner says less: it fails on what the method gave it.

    Args:
        error: what was raised.
        also: modules of methods that are installed with other packages.
    """
    own = [
        f"{Path(frame.f_code.co_filename).name}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if (module := str(frame.f_globals.get("__name__"))) in also or module.startswith(_OTHERS)
    ]
    return own[-1] if own else ""


def explained(error: BaseException, also: Collection[str] = ()) -> str:
    """Return an exception in words, with the place that :func:`raised` finds."""
    place = raised(error, also)
    return f"{in_words(error)} ({place})" if place else in_words(error)
