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
    # Signs that are newer than a Python are escaped by that one, and written out by later ones.
    return hashlib.sha256(text.encode("ascii", "backslashreplace")).hexdigest()[:12]


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
    """Return what a plugin file holds: a protocol, a recipe, a trunk, a dataset, or else a method.

    Raises:
        SyntaxError, ValueError: the file is no Python.
    """
    body = ast.parse(source).body
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    for node in body:
        match node:
            case ast.Assign(targets=targets):
                words = {target.id for target in targets if isinstance(target, ast.Name)}
                for word in ("PROTOCOL", "RECIPE"):
                    if word in words:
                        return word.lower()
            case ast.FunctionDef(name="build", args=ast.arguments(args=[ast.arg("weights"), *_])):
                return "trunk"
    return "dataset" if {"digest", "load"} <= functions else "method"


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
    return ast.unparse(_SpelledFStrings().visit(tree)), names


class _SpelledFStrings(ast.NodeTransformer):
    """Turns f-strings with strings inside their fields into calls.

    Which quotes these get when they are written out depends on Python's version (PEP 701).
    """

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        """Return ``fstring(parts)``, each field a tuple of value, conversion and format."""
        fields = [part for part in node.values if isinstance(part, ast.FormattedValue)]
        quoted = any(_has_text(field) for field in fields)
        self.generic_visit(node)
        if not quoted:
            return node
        parts = [_spelled(part) for part in node.values if not _is_empty(part)]
        return ast.Call(func=ast.Name(id="fstring"), args=parts, keywords=[])


def _spelled(part: ast.expr) -> ast.expr:
    if not isinstance(part, ast.FormattedValue):
        return part
    how = part.format_spec or ast.Constant(value=None)
    return ast.Tuple(elts=[part.value, ast.Constant(value=part.conversion), how], ctx=ast.Load())


def _is_empty(part: ast.expr) -> bool:
    """Return whether a part of an f-string is the empty text that Python 3.12 leaves in formats."""
    return isinstance(part, ast.Constant) and part.value == ""


def _has_text(field: ast.FormattedValue) -> bool:
    """Return whether a string stands in the field's value or in a field of its format."""
    inside = [field.value]
    if isinstance(field.format_spec, ast.JoinedStr):
        inside += [v for v in field.format_spec.values if isinstance(v, ast.FormattedValue)]
    return any(
        isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))
        for value in inside
        for node in ast.walk(value)
    )


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
