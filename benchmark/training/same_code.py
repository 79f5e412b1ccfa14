"""Whether a job's code is what its cell is named after: an edit while a study runs is not trained.

A cell's id holds digests of its method's and its trunk's code, taken when the study began. A worker
imports that code for each job anew, so what was edited meanwhile would stand under the old id.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from protocols.discovery import KINDS, Registry
from protocols.errors import PluginError

# Kind, name and digest of the code, as a cell's record has it.
Code = tuple[str, str, str]
_SHIPPED = Path(__file__).parents[2] / "protocols"


def check_code(codes: tuple[Code, ...], plugins: tuple[Path, ...]) -> None:
    """Raise PluginError if one of ``codes`` is other code by now.

    Digests take a tenth of a second, so each is taken once for the same content of all files.
    """
    for kind, name, expected in codes:
        if _digest(kind, name, plugins, _content(kind, name, plugins)) != expected:
            raise PluginError(
                f"{kind} {name!r} was edited since this study began, and nothing is trained under "
                "the name of other code. What is recorded is safe: run the same command again, "
                "which begins its rows anew, or undo the edit before"
            )


@lru_cache(maxsize=64)
def _digest(kind: str, name: str, plugins: tuple[Path, ...], content: str) -> str:
    """Return the digest of the code, "" where it cannot be read: half of it may be saved."""
    try:
        return Registry(plugins).code_digest(kind, name)
    except PluginError:
        return ""


@lru_cache(maxsize=64)
def _source(kind: str, name: str, plugins: tuple[Path, ...]) -> Path:
    return Registry(plugins).source(kind, name)  # it looks through all packages


def _content(kind: str, name: str, plugins: tuple[Path, ...]) -> str:
    """Return a digest of the bytes of all files that the code may be made of; in milliseconds."""
    own = _source(kind, name, plugins)
    shipped = (_SHIPPED / KINDS[kind]).glob("*.py")
    found = hashlib.sha256()
    for path in sorted({own, *plugins, *shipped}):
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
