"""What a file's code is and what it shares with shipped files, read without running anything."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path


def digest(tree: ast.Module, kind: str, folder: Path) -> str:
    """Return 12 hex digits over a file's code and that of the shipped files it builds on.

    Comments, layout and docstrings aside. What counts are the files in ``folder`` that the file
    imports or loads by name, and that those import.

    Args:
        tree: the file, parsed; its docstrings are gone afterwards.
        kind: what the files of ``folder`` hold, as :func:`protocols.discovery.load` calls it.
        folder: where shipped files of that kind lie, like ``protocols/methods``.
    """
    trees = [tree, *_built_on(tree, kind, folder)]
    for node in (node for tree in trees for node in ast.walk(tree)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body.pop(0)
    return hashlib.sha256("\n".join(map(ast.unparse, trees)).encode()).hexdigest()[:12]


def _built_on(tree: ast.Module, kind: str, folder: Path) -> Iterator[ast.Module]:
    """Yield the code of files in ``folder`` that ``tree`` builds on, each once."""
    package = f"protocols.{folder.name}"
    seen, waiting = set(), [tree]
    while waiting:
        top = waiting.pop()
        for node in ast.walk(top):
            for name in _named(node, top, kind, package):
                path = _file(folder, name)
                if path is None or name in seen:
                    continue
                seen.add(name)
                waiting.append(ast.parse(path.read_text("utf-8")))
                yield waiting[-1]


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


def _file(folder: Path, name: str) -> Path | None:
    """Return the file of a name in ``folder``, None if there is none."""
    paths = (folder / f"{name}.py", folder / name / "__init__.py")
    return next((path for path in paths if name.isidentifier() and path.is_file()), None)


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
