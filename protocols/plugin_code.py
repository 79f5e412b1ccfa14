"""Plugins' code in a process that goes on afterwards: what it raises or changes stays with it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from protocols.blame import PLUGIN, explained
from protocols.errors import BenchmarkError, PluginError
from protocols.own_imports import check_alone

_SHIPPED = "protocols.methods."


def import_file(path: Path) -> ModuleType:
    """Import a plugin file under a name of its own, so that it can be pickled and reloaded.

    Raises:
        PluginError: it is no Python file, or imports another file of its author's.
    """
    check_alone(path)
    module_name = f"{PLUGIN}{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin {str(path)!r}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def places_kept(what: str) -> Iterator[None]:
    """Refuse code that moves the process elsewhere, or puts folders before Python's own.

    Relative paths of the command line would mean others, and every later import could find
    another module. Both are put back. Folders that are appended hide nothing and are let be.

    Raises:
        PluginError: it did; the message begins with ``what``.
    """
    folder, search = os.getcwd(), list(sys.path)
    try:
        yield
    finally:
        moved, hides = os.getcwd() != folder, sys.path[: len(search)] != search
        if moved:
            os.chdir(folder)
        if hides:
            sys.path[:] = search
    if moved or hides:
        did = "changes the working folder" if moved else "puts folders before others in sys.path"
        raise PluginError(
            f"{what} {did} when it is imported, which moves what others read. Use paths from "
            "__file__, and install the packages that it needs"
        )


@contextmanager
def told(what: str, owner: type) -> Iterator[None]:
    """Turn what a plugin's class raises in a declaration into a PluginError, sys.exit too.

    What ships keeps its traceback, as any fault of this program.
    """
    try:
        yield
    except (BenchmarkError, KeyboardInterrupt):
        raise
    # Broad: whatever a plugin's declaration raises, sys.exit too, is the plugin's fault, in words.
    except BaseException as error:
        if owner.__module__.startswith(_SHIPPED):
            raise
        reason = explained(error, {owner.__module__})
        raise PluginError(f"{what} of {owner.__name__} raises {reason}") from error
