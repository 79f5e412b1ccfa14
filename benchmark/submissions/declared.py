"""What source files declare, read from their syntax tree: nothing of a commit is ever run.

A method declares its hyperparameters and a recipe its values as plain calls with numbers, names
and earlier values in them. Only such are understood. Where a file computes more than that, it
cannot be told without running it, and :class:`UnreadableError` says so.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from protocols.errors import BenchmarkError
from protocols.searched import search_space
from protocols.space import Choice, Hyperparameter, Integer, Real, Space

Read = Callable[[str], str | None]
"""The text of a file by its path in the checkout, None where there is none."""

_KINDS: dict[str, Any] = {"Real": Real, "Integer": Integer, "Choice": Choice}
_MAX_DEPTH = 50  # of names that stand for names
_MAX_NUMBER = 1e15
_BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
_METHOD = ("protocols.method", "Method")


class UnreadableError(Exception):
    """A value that no one knows without running the file."""


@dataclass(frozen=True, eq=False)
class _Module:
    """A file's top level: names it gives values, classes, and where imported names are from."""

    name: str
    values: dict[str, ast.expr]
    classes: dict[str, ast.ClassDef]
    imports: dict[str, tuple[str, str]]  # name here -> (module, name there, "" for the module)


@dataclass(frozen=True, eq=False)
class _Class:
    module: _Module
    node: ast.ClassDef


class Declarations:
    """What the files of one commit declare; ``read`` gives their text."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def space(self, path: str, dataset: str, bounds: Literal["wide", "narrow"]) -> Space:
        """Return what the method in the file at ``path`` lets a search vary on ``dataset``.

        Raises:
            UnreadableError: that is not plain in the file.
        """
        cls = self._method(self._module_at(path))
        if any(isinstance(n, ast.FunctionDef) and n.name == "space" for n in self._bodies(cls)):
            raise UnreadableError("it computes its search space")
        published = self._attribute(cls, "published") or {}
        name = self._attribute(cls, "paper_name") or ""
        if not isinstance(published, dict) or not isinstance(name, str):
            raise UnreadableError("published or paper_name is not plain")
        try:
            own = self._hyperparameters(cls)
            return search_space(own, name, published.get(dataset, {}), dataset, bounds)
        except (BenchmarkError, KeyError, TypeError, ValueError) as error:
            raise UnreadableError(f"its search space is none: {error}") from error

    def trains(self, path: str) -> bool:
        """Return whether the method in the file at ``path`` trains anything.

        Raises:
            UnreadableError: that is not plain in the file.
        """
        found = self._attribute(self._method(self._module_at(path)), "trains")
        if not isinstance(found, bool | None):
            raise UnreadableError("trains is not plain")
        return found is not False

    def recipe(self, path: str) -> dict[str, Any]:
        """Return the values of the recipe in the file at ``path``.

        Raises:
            UnreadableError: they are not plain in the file.
        """
        module = self._module_at(path)
        found = self._named("RECIPE", module, 0)
        if not isinstance(found, dict):
            raise UnreadableError("RECIPE is not plain")
        return found

    def _module_at(self, path: str) -> _Module:
        module = self._module(path.removesuffix("/__init__.py").removesuffix(".py"), path)
        if module is None:
            raise UnreadableError(f"no file {path}")
        return module

    def _module(self, name: str, path: str = "") -> _Module | None:
        """Return a module by its dotted name, None if no file of the commit holds it."""
        stem = name.replace(".", "/")
        for file in (path,) if path else (f"{stem}.py", f"{stem}/__init__.py"):
            text = self._read(file)
            if text is not None:
                try:
                    return _parsed(text, name.replace("/", "."))
                except (SyntaxError, ValueError, RecursionError) as error:
                    raise UnreadableError(f"{file} does not parse") from error
        return None

    def _method(self, module: _Module) -> _Class:
        found = [
            _Class(module, node)
            for name, node in module.classes.items()
            if not name.startswith("_") and self._is_method(_Class(module, node))
        ]
        if len(found) != 1:
            raise UnreadableError(f"{len(found)} methods in its file")
        return found[0]

    def _is_method(self, cls: _Class, depth: int = 0) -> bool:
        if (cls.module.name, cls.node.name) == _METHOD:
            return True
        return depth < _MAX_DEPTH and any(
            self._is_method(base, depth + 1) for base in self._bases(cls)
        )

    def _bases(self, cls: _Class) -> Iterator[_Class]:
        """Yield the base classes that the commit's files define; torch's declare nothing."""
        for node in cls.node.bases:
            base, where = self._class(node, cls.module)
            if base:
                yield base
            elif where.split(".")[0] not in ("torch", "pytorch_metric_learning", "typing"):
                raise UnreadableError(f"its base {ast.unparse(node)} is elsewhere")

    def _class(self, node: ast.expr, module: _Module) -> tuple[_Class | None, str]:
        """Return the class that an expression names, or None and the module it is from."""
        match node:
            case ast.Name(id=name) if name in module.classes:
                return _Class(module, module.classes[name]), module.name
            case ast.Name(id=name) if name in module.imports:
                origin, inner = module.imports[name]
            case ast.Attribute(value=ast.Name(id=name), attr=inner) if name in module.imports:
                origin, part = module.imports[name]
                origin = f"{origin}.{part}".rstrip(".")
            case _:
                return None, ""
        other = self._module(origin) if origin.split(".")[0] == "protocols" else None
        if other and inner in other.classes:
            return _Class(other, other.classes[inner]), origin
        return None, origin

    def _bodies(self, cls: _Class, depth: int = 0) -> Iterator[ast.stmt]:
        """Yield the statements of a class and of its bases, up to Method itself."""
        if (cls.module.name, cls.node.name) == _METHOD or depth > _MAX_DEPTH:
            return
        yield from cls.node.body
        for base in self._bases(cls):
            yield from self._bodies(base, depth + 1)

    def _attribute(self, cls: _Class, name: str, depth: int = 0) -> Any:
        """Return a class attribute, the nearest base's where the class has none; None without."""
        for node in cls.node.body:
            for target, value in _assigned(node):
                if target == name:
                    return self._value(value, cls.module, 0)
        for base in self._bases(cls) if depth < _MAX_DEPTH else ():
            if (found := self._attribute(base, name, depth + 1)) is not None:
                return found
        return None

    def _hyperparameters(self, cls: _Class, depth: int = 0) -> Space:
        """Return what a class declares, its bases' first."""
        found = Space()
        if (cls.module.name, cls.node.name) == _METHOD or depth > _MAX_DEPTH:
            return found
        for base in reversed(list(self._bases(cls))):
            found.update(self._hyperparameters(base, depth + 1))
        for node in cls.node.body:
            if isinstance(node, _BLOCKS):
                raise UnreadableError("its class body decides what it declares")
            for name, value in _assigned(node):
                if self._kind(value, cls.module):
                    found[name] = self._value(value, cls.module, 0)
                    found[name].name = name
        return found

    def _kind(self, node: ast.expr, module: _Module) -> Any:
        """Return the class of hyperparameter that a call makes, None for anything else."""
        match node:
            case ast.Call(func=ast.Name(id=name)):
                return _KINDS.get(module.imports.get(name, ("", ""))[1])
            case ast.Call(func=ast.Attribute(attr=name)):
                return _KINDS.get(name)
        return None

    def _named(self, name: str, module: _Module, depth: int) -> Any:
        if name in module.values:
            return self._value(module.values[name], module, depth + 1)
        if name in module.imports:
            origin, inner = module.imports[name]
            other = self._module(origin) if origin.split(".")[0] == "protocols" else None
            if other and inner:
                return self._named(inner, other, depth + 1)
        raise UnreadableError(f"{name} is not plain")

    def _value(self, node: ast.expr, module: _Module, depth: int) -> Any:
        """Return the value of an expression made of numbers, words, names and known calls."""
        if depth > _MAX_DEPTH:
            raise UnreadableError("names that stand for names")

        match node:
            case ast.Name(id=name):
                return self._named(name, module, depth)
            case ast.Attribute(value=ast.Name(id=name), attr=inner) if name in module.imports:
                other = self._module(".".join(filter(None, module.imports[name])))
                if other:
                    return self._named(inner, other, depth)
            case ast.Call():
                return self._made(node, module, depth)
        return _literal(node, lambda inner: self._value(inner, module, depth + 1))

    def _made(self, node: ast.Call, module: _Module, depth: int) -> Any:
        """Return what a known call makes: a hyperparameter, a dataclass as a dict, a copy."""
        args = [self._value(inner, module, depth + 1) for inner in node.args]
        named = {k.arg: self._value(k.value, module, depth + 1) for k in node.keywords if k.arg}
        if kind := self._kind(node, module):
            try:
                made: Hyperparameter[Any] = kind(*args, **named)
            except (BenchmarkError, TypeError, ValueError) as error:
                raise UnreadableError(f"{ast.unparse(node)[:60]}: {error}") from error
            return made
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        origin = module.imports.get(called)
        if origin == ("types", "MappingProxyType") and args:
            return args[0]
        if origin == ("dataclasses", "replace") and args and isinstance(args[0], dict):
            return args[0] | named
        cls, _ = self._class(node.func, module)
        if cls is None or args:
            raise UnreadableError(f"{ast.unparse(node)[:60]} is not plain")
        fields = {
            name: self._value(value, cls.module, depth + 1)
            for statement in cls.node.body
            if isinstance(statement, ast.AnnAssign)
            for name, value in _assigned(statement)
        }
        return fields | named


@lru_cache(maxsize=1024)
def _parsed(text: str, name: str) -> _Module:
    """Return a file's top level; later assignments win, as they do when it runs."""
    values, classes, imports = {}, {}, {}
    for node in ast.parse(text).body:
        values.update(dict(_assigned(node)))
        if isinstance(node, ast.ClassDef):
            classes[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            package = name.rpartition(".")[0] if node.level == 1 else ""
            origin = ".".join(filter(None, (package, node.module)))
            for alias in node.names:
                imports[alias.asname or alias.name] = (origin, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                imports[alias.asname or alias.name] = (alias.name, "")
    return _Module(name, values, classes, imports)


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value


def _literal(node: ast.expr, value: Callable[[ast.expr], Any]) -> Any:
    """Return a constant, a collection or a sum; ``value`` tells what their parts are."""
    match node:
        case ast.Constant(value=found):
            return found
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(value(item) for item in items)
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {value(k): value(v) for k, v in zip(keys, values, strict=True) if k}
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_number(value(inner))
        case ast.BinOp(left=left, op=op, right=right):
            return _combined(op, _number(value(left)), _number(value(right)))
    raise UnreadableError(f"{ast.unparse(node)[:60]} is not plain")


def _number(found: Any) -> float | int:
    if isinstance(found, bool) or not isinstance(found, (int, float)) or abs(found) > _MAX_NUMBER:
        raise UnreadableError("a sum of what is no number")
    return found


def _combined(op: ast.operator, left: float | int, right: float | int) -> float | int:
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div() if right:
            return left / right
    raise UnreadableError(f"{type(op).__name__} is not plain")
