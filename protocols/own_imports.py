"""Which imports of a plugin find files of its author's own, seen without running anything."""

from __future__ import annotations

import ast
import importlib.util
import site
import sysconfig
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from protocols.errors import PluginError

_HERE = Path(__file__).resolve().parent
_SHIPPED = ("protocols", "benchmark")


def check_alone(path: Path) -> None:
    """Raise PluginError where a plugin imports another file that is not of an installed package.

    A row is known by its plugin's code. What another file does could change without the row
    becoming another one, and that file is not handed in with it.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # running it says so, with the line
        return
    for name, line in _imported(tree):
        if not name:
            raise PluginError(
                f"plugin {str(path)!r} has a relative import in line {line}: a plugin is one file "
                "and lies in no package. Put what it needs into it, or install it as a package"
            )
        if found := _own_file(name):
            raise PluginError(
                f"plugin {str(path)!r} imports {name} in line {line}, which is {found}: a row is "
                "known by the code of its one file, so a change there would go unseen. Put what "
                "it needs into the plugin, or install it as a package; a variant of a method is a "
                "setting of it (--set method.NAME.SETTING=VALUE)"
            )


def _imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the first part of each imported name, "" for a relative import, and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield ("" if node.level else str(node.module).partition(".")[0]), node.lineno


def _own_file(name: str) -> Path | None:
    """Return the file or folder of a module that neither ships, nor is Python's, nor installed."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # of what runs, such as __main__
        return None
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    paths = [Path(place).resolve() for place in places if place and Path(place).exists()]
    if not paths or any(_is_installed(path) for path in paths):
        return None
    if name in _SHIPPED and _HERE.parent in paths[0].parents:
        return None
    return None if name in packages_distributions() else paths[0]


def _is_installed(path: Path) -> bool:
    """Return whether a file belongs to Python or to a package that was installed."""
    known = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    return any(Path(place).resolve() in path.parents for place in known)
