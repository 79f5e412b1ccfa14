"""Plugins are imported where a study is laid out, and must change nothing there for other rows."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.discovery import KINDS, Registry
from protocols.errors import PluginError

_OURS = ("benchmark.", "protocols.")
_NAMED = 5


def import_all(registry: Registry, methods: Iterable[str]) -> None:
    """Import the plugin files; raise where that changes what shipped code computes with.

    Spaces, first trials and cells of all methods are made in this process, so a plugin that
    replaces a name or a table there would move the rows of others.

    Args:
        registry: the known names.
        methods: those of the study; the shipped ones are imported first, to be looked at.

    Raises:
        PluginError: a plugin changes shipped code.
    """
    if not registry.plugins:
        return
    from benchmark.engines.guard import Guard  # here: it imports torch

    for method in methods:
        if registry.ships("method", method):
            registry.load("method", method)
    guard = Guard()
    for kind in KINDS:
        for name in registry.own(kind):
            registry.load(kind, name)
    changed = [name for name in guard.changed() if name.startswith(_OURS)]
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise PluginError(
            f"importing {', '.join(path.name for path in registry.plugins)} changes what every "
            f"method starts from: {', '.join(changed[:_NAMED])}{more}. Leave these as they are: "
            "derive a class, or copy the function into your file"
        )
