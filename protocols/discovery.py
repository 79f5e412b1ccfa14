"""Names to objects: a folder of modules, entry points of other packages, and single files.

A name is the file's name. Folders are listed without importing; only the module asked for is
imported, so a broken plugin breaks only itself.

A trunk or dataset file that stands for many defines ``ARGUMENT``, the word for what must follow
its name: with ``ARGUMENT = "NAME"``, ``timm.py`` answers to ``timm:resnet18``, and its functions
that have a parameter ``argument`` get ``"resnet18"`` there. ``ARGUMENT = "TRUNK"`` says that
another trunk's name follows, as in ``frozen:timm:resnet18``: functions with a parameter ``inner``
get that trunk's ``build``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from functools import cached_property, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from protocols import names as naming
from protocols.blame import explained
from protocols.errors import InvalidInputError, PluginError, unknown_name
from protocols.picking import PICK
from protocols.plugin_code import import_file, places_kept
from protocols.source_code import chained, constant, digest, in_folder, kind_of

KINDS = {
    "method": "methods",
    "dataset": "datasets",
    "trunk": "trunks",
    "recipe": "recipes",
    "protocol": "specs",
}
WITH_ARGUMENT = ("dataset", "trunk")
INSIDE = "TRUNK"  # the argument of a trunk that holds another one
_GROUP = {kind: f"dml_benchmark.{kind}s" for kind in KINDS}
_ROOT = Path(__file__).parent


def split_name(name: str) -> tuple[str, str | None]:
    """Return the file's name and what follows its first colon, None without one."""
    stem, colon, argument = name.partition(":")
    return stem, argument if colon else None


class Registry:
    """The names that are known: shipped ones, installed plugins, and files given by path.

    Args:
        plugins: plugin files; the stem of each is the name of what it holds: a protocol or a
            recipe where the file sets PROTOCOL or RECIPE, a trunk where it has a function
            ``build(weights)``, otherwise a method.
    """

    def __init__(self, plugins: tuple[Path, ...] = ()) -> None:
        self._files: dict[tuple[str, str], Path] = {}
        self._stems: dict[str, set[str]] = {}  # folders are listed once
        for path in plugins:
            if not path.is_file():
                raise PluginError(f"plugin {str(path)!r}: no such file")
            kind = _kind_of(path)
            if kind == "dataset":
                raise PluginError(
                    f"plugin {str(path)!r} holds a dataset, which no option takes: install it with "
                    "an entry point of dml_benchmark.datasets, or prepare its images as "
                    "csv:FILE or folder:PATH (CONTRIBUTING.md, Add a dataset)"
                )
            if fault := naming.fault(path.stem):
                raise PluginError(f"plugin {str(path)!r}: the {kind} is named by the file: {fault}")
            if (kind, path.stem) in self._files or path.stem in self._shipped(kind):
                raise PluginError(
                    f"plugin {str(path)!r}: a {kind} {path.stem!r} exists already; rename the file"
                )
            self._files[kind, path.stem] = path.resolve()
            self._check_alike(kind, path.stem)

    @property
    def plugins(self) -> tuple[Path, ...]:
        """Return the plugin files, absolute."""
        return tuple(self._files.values())

    def own(self, kind: str) -> list[str]:
        """Return the names of ``kind`` that plugin files hold, in the order of the files."""
        return [name for held, name in self._files if held == kind]

    def names(self, kind: str) -> list[str]:
        """Return the known names of ``kind``, sorted, without arguments; see :meth:`usage`."""
        return sorted({*self._shipped(kind), *self._installed(kind), *self.own(kind)})

    def usage(self, kind: str, name: str) -> str:
        """Return how ``name`` is asked for: ``timm:NAME`` where a file takes an argument."""
        stem = self._known(kind, name)
        word = self._argument(kind, stem)
        return f"{stem}:{word}" if word else stem

    def check(self, kind: str, name: str) -> None:
        """Raise unless ``name`` can be loaded, as far as that is seen without importing.

        Raises:
            UnknownNameError: no such name; the message gives the nearest ones.
            InvalidInputError: an argument too many, or none where one is needed.
            PluginError: the name is none, or another one is the same but for case.
        """
        stem = self._known(kind, name)
        if fault := naming.fault(stem):  # of an installed package: files are checked above
            raise PluginError(f"{kind} {stem!r}: {fault}; rename its entry point")
        if clash := self.clash(kind, stem):
            raise PluginError(f"{kind} {stem!r}: {clash}; rename one, or uninstall its package")
        self._check_alike(kind, stem)
        word, argument = self._argument(kind, stem), split_name(name)[1]
        if word and not argument:
            raise InvalidInputError(
                f"{kind} {name!r} needs to know which: {stem}:{word}. {self.summary(kind, stem)}"
            )
        if argument is not None and not word:
            raise InvalidInputError(
                f"{kind} {stem!r} takes no argument, met {name!r}; use {stem!r}"
            )
        if inner := self.inside(kind, name):
            self.check(kind, inner)

    def clash(self, kind: str, stem: str) -> str:
        """Return which installed entry points have a name that is taken, "" if none has."""
        named = [p for p in self._points if p.group == _GROUP[kind] and p.name == stem]
        taken = stem in self._shipped(kind) or (kind, stem) in self._files
        if not named or len({p.value for p in named}) + taken < 2:
            return ""
        words = [f"{p.value} of {p.dist.name if p.dist else 'a package'}" for p in named]
        return f"the name of {' and of '.join(words)}{', and of another one here' * taken}"

    def inside(self, kind: str, name: str) -> str:
        """Return the name of the trunk that trunk ``name`` holds, "" where it holds none."""
        stem, argument = split_name(name)
        held = kind == "trunk" and argument and self._argument(kind, stem) == INSIDE
        return argument if held and argument else ""

    def starts_at_random(self, trunk: str) -> bool:
        """Return whether some of a trunk is drawn at its start and moves its features.

        Such a file says ``RANDOM_START = True``: with weights too, seeds see other features.
        """
        chain = [trunk]
        while inner := self.inside("trunk", chain[-1]):
            chain.append(inner)
        texts = (self.source("trunk", name).read_text(encoding="utf-8") for name in chain)
        return any(constant(text, "RANDOM_START") is True for text in texts)

    def module(self, kind: str, name: str) -> ModuleType:
        """Import and return the module of ``name``.

        Raises:
            UnknownNameError: no such name.
            InvalidInputError: an argument too many, or none where one is needed.
            PluginError: the module cannot be imported.
        """
        self.check(kind, name)
        name = self._known(kind, name)
        try:
            if (kind, name) not in self._files and name in self._shipped(kind):
                return importlib.import_module(_module_name(kind, name))
            with places_kept(f"{kind} {name!r} ({self.source(kind, name)})"):
                if (kind, name) in self._files:
                    return import_file(self._files[kind, name])
                return importlib.import_module(self._installed(kind)[name].module)
        except (KeyboardInterrupt, PluginError):
            raise
        except BaseException as error:  # sys.exit too: a file must not end the program
            if self.ships(kind, name):
                raise
            where = self.source(kind, name)
            reason = explained(error, {point.module for point in self._points})
            raise PluginError(f"{kind} {name!r} ({where}) does not import: {reason}") from error

    def ships(self, kind: str, name: str) -> bool:
        """Return whether ``name``, with or without an argument, is a file of this package."""
        stem = split_name(name)[0] if kind in WITH_ARGUMENT else name
        if stem not in self._shipped(kind):
            return False
        inner = self.inside(kind, name)
        return not inner or self.ships(kind, inner)

    def source(self, kind: str, name: str) -> Path:
        """Return the file that holds ``name``, found without running it."""
        name = self._known(kind, name)
        if (kind, name) in self._files:
            return self._files[kind, name]
        module = (
            _module_name(kind, name)
            if name in self._shipped(kind)
            else self._installed(kind)[name].module
        )
        try:
            spec = importlib.util.find_spec(module)
        except ImportError as error:  # of the package around it
            raise PluginError(f"{kind} {name!r}: no module {module!r}: {error}") from error
        if spec is None or spec.origin is None:
            raise PluginError(f"{kind} {name!r}: module {module!r} has no source file")
        return Path(spec.origin)

    def code_digest(self, kind: str, name: str) -> str:
        """Return 12 hex digits over the file's code: comments, layout and docstrings aside.

        The shipped files of its kind that it builds on count too, a plugin's as well: whoever
        edits ``ms.py`` must not see old rows of a method that inherits from it. So does the trunk
        that a trunk holds.
        """
        if inner := self.inside(kind, name):
            stem = split_name(name)[0]
            return chained(self._own_digest(kind, stem), self.code_digest(kind, inner))
        return self._own_digest(kind, name)

    def _own_digest(self, kind: str, name: str) -> str:
        source, folder = self.source(kind, name), KINDS[kind]
        try:
            text = source.read_text(encoding="utf-8")
            return digest(text, kind, f"protocols.{folder}", in_folder(_ROOT / folder))
        except (SyntaxError, ValueError) as error:
            raise PluginError(f"{kind} {name!r} ({source}) does not parse: {error}") from error

    def load(self, kind: str, name: str) -> Any:
        """Return the object: a Method class, a Recipe, a Protocol, or a trunk/dataset module.

        A name's argument is already in the functions that take it.
        """
        found = PICK[kind](self.module(kind, name), name)
        said = getattr(found, "name", name) if kind in ("protocol", "recipe") else name
        if said.replace("-", "_") != name.replace("-", "_"):
            raise PluginError(
                f"{kind} {name!r} ({self.source(kind, name)}) calls itself {said!r}: tables "
                "would show a name that nobody can ask for. Give file and name the same word"
            )
        argument = split_name(name)[1]
        if argument is None:
            return found
        inner = self.inside(kind, name)
        words = {"argument": argument, **({"inner": self.load(kind, inner).build} if inner else {})}
        return _bind(found, words)

    def summary(self, kind: str, name: str) -> str:
        """Return one line about ``name``, read from the source without running it.

        Of a file that cannot be read it says why: one broken plugin must not end a list.
        """
        try:
            source = self.source(kind, name)
            tree = ast.parse(source.read_text(encoding="utf-8"))
        except PluginError as error:
            return str(error)
        except (SyntaxError, ValueError) as error:
            return f"{kind} {name!r} ({source}) does not parse: {error}"
        return (ast.get_docstring(tree) or "").split("\n")[0]

    def _check_alike(self, kind: str, name: str) -> None:
        """Raise PluginError where another name of ``kind`` looks like ``name``."""
        for other in naming.twins(name, self.names(kind)):
            raise PluginError(
                f"{kind}s {name!r} and {other!r} ({other!a}) differ only by case, Unicode form "
                "or letters that look alike, which file systems and readers take for one; rename "
                "one of them"
            )

    def _known(self, kind: str, name: str) -> str:
        """Return the file's part of ``name``, or raise UnknownNameError with the nearest ones."""
        stem = split_name(name)[0] if kind in WITH_ARGUMENT else name
        known = self.names(kind)
        if stem not in known:
            raise unknown_name(kind, stem, known)
        return stem

    def _argument(self, kind: str, stem: str) -> str | None:
        """Return the file's ARGUMENT, read without running it; None if it defines none."""
        if kind not in WITH_ARGUMENT:
            return None
        try:
            word = constant(self.source(kind, stem).read_text(encoding="utf-8"), "ARGUMENT")
        except (SyntaxError, ValueError):  # importing it will say more
            return None
        return word if isinstance(word, str) else None

    def _shipped(self, kind: str) -> set[str]:
        if kind not in self._stems:
            folder = _ROOT / KINDS[kind]
            files = {p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")}
            stems = files | {p.parent.name for p in folder.glob("*/__init__.py")}
            hyphens = kind == "protocol"
            self._stems[kind] = {s.replace("_", "-") for s in stems} if hyphens else stems
        return self._stems[kind]

    def _installed(self, kind: str) -> dict[str, EntryPoint]:
        return {point.name: point for point in self._points if point.group == _GROUP[kind]}

    @cached_property
    def _points(self) -> tuple[EntryPoint, ...]:
        """Return other packages' entry points that are ours; looking them up takes a while."""
        return tuple(p for group in _GROUP.values() for p in entry_points(group=group))


def _module_name(kind: str, name: str) -> str:
    """Return the shipped module of ``name``; protocols are written with hyphens, files not."""
    return f"protocols.{KINDS[kind]}.{name.replace('-', '_')}"


def load(kind: str, name: str) -> Any:
    """Return the object called ``name`` among what ships and what is installed."""
    return Registry().load(kind, name)


def recipes_with(batch_norm: str) -> list[str]:
    """Return the names of the shipped recipes with a policy for BatchNorm, sorted."""
    names = sorted(Registry()._shipped("recipe"))
    return [name for name in names if load("recipe", name).batch_norm == batch_norm]


def _kind_of(path: Path) -> str:
    """Return what a plugin file holds, read without running it."""
    try:
        return kind_of(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):  # whoever asks for it is told what is wrong
        return "method"


def _bind(module: ModuleType, words: dict[str, Any]) -> SimpleNamespace:
    """Return what ``module`` defines, with ``words`` in the functions that take them."""

    def bound(value: Any) -> Any:
        if not inspect.isfunction(value):
            return value
        takes = {k: v for k, v in words.items() if k in inspect.signature(value).parameters}
        return partial(value, **takes) if takes else value

    return SimpleNamespace(**{name: bound(value) for name, value in vars(module).items()})
