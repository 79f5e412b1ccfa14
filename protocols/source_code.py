"""What a file's code is and what it shares with shipped files, read without running anything."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

Read = Callable[[str], str | None]
"""The text of a shipped file by its name without suffix, None where no such file ships."""


def digest(source: str, kind: str, package: str, read: Read) -> str:
    """Return 12 hex digits over a file's code and that of the shipped files it builds on.

    Comments, layout and docstrings aside. What counts are the files of ``package`` that the file
    imports or loads by name, and that those import.

    Args:
        source: the file's text.
        kind: what the files of ``package`` hold, as :func:`protocols.discovery.load` calls it.
        package: where shipped files of that kind lie, like ``protocols.methods``.
        read: gives the files of ``package``: of this checkout, or of some commit.

    Raises:
        SyntaxError, ValueError: a file is no Python.
    """
    parts = [source, *_built_on(source, kind, package, read)]
    text = "\n".join(_code(part, kind, package)[0] for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def chained(outer: str, inner: str) -> str:
    """Return one digest of a file's code and of that which it holds inside it."""
    return hashlib.sha256(f"{outer} {inner}".encode()).hexdigest()[:12]


def constant(source: str, name: str) -> str | bool | None:
    """Return the word or truth value that a file gives ``name`` at its top, None without one.

    Raises:
        SyntaxError, ValueError: the file is no Python.
    """
    for node in ast.parse(source).body:
        match node:
            case ast.Assign([ast.Name(id=said)], ast.Constant(str() | bool() as value)):
                if said == name:
                    return value
    return None


def kind_of(source: str) -> str:
    """Return what a plugin file holds: a protocol, a recipe, a trunk, or else a method.

    Raises:
        SyntaxError, ValueError: the file is no Python.
    """
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=targets):
                words = {target.id for target in targets if isinstance(target, ast.Name)}
                for word in ("PROTOCOL", "RECIPE"):
                    if word in words:
                        return word.lower()
            case ast.FunctionDef(name="build", args=ast.arguments(args=[ast.arg("weights"), *_])):
                return "trunk"
    return "method"


def in_folder(folder: Path) -> Read:
    """Return what reads the files of a package's folder by name."""

    def read(name: str) -> str | None:
        paths = (folder / f"{name}.py", folder / name / "__init__.py")
        return next((p.read_text("utf-8") for p in paths if name and p.is_file()), None)

    return read


def _built_on(source: str, kind: str, package: str, read: Read) -> Iterator[str]:
    """Yield the text of the shipped files that ``source`` builds on, each once."""
    seen, waiting = set(), [source]
    while waiting:
        for name in _code(waiting.pop(), kind, package)[1]:
            if name in seen or not name.isidentifier():
                continue
            text = read(name)
            if text is not None:
                seen.add(name)
                waiting.append(text)
                yield text


@lru_cache(maxsize=1024)
def _code(source: str, kind: str, package: str) -> tuple[str, tuple[str, ...]]:
    """Return a file's code, and the names in ``package`` that it makes use of, in order."""
    tree = ast.parse(source)
    names = tuple(name for node in ast.walk(tree) for name in _named(node, tree, kind, package))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body.pop(0)
    return ast.unparse(tree), names


def _named(node: ast.AST, top: ast.Module, kind: str, package: str) -> Iterable[str]:
    """Return the names in ``package`` that ``node`` makes use of; some may be no file's.

    Where the package itself is imported, every attribute that the file looks up may be one.
    """
    match node:
        case ast.ImportFrom(module=module, names=names, level=level):
            module = f"{package}.{module or ''}".rstrip(".") if level == 1 else module or ""
            whole = [f"{module}.{alias.name}" for alias in names]
            found = [module] if module.startswith(f"{package}.") else whole
        case ast.Import(names=names):
            found = [alias.name for alias in names]
        case ast.Call(args=[ast.Constant(value=asked), ast.Constant(value=str(name))]):
            return [name] if asked == kind else []
        case _:
            return []
    if any(module in (package, "protocols") for module in found):
        return [n.attr for n in ast.walk(top) if isinstance(n, ast.Attribute)]
    inside = [m.removeprefix(f"{package}.") for m in found if m.startswith(f"{package}.")]
    return [name.split(".")[0] for name in inside]


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
