"""The commands around methods: known names, a new plugin."""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.exit_codes import DONE
from benchmark.study.environment import CHECKOUT
from protocols import methods
from protocols import names as naming
from protocols.discovery import KINDS, Registry
from protocols.errors import InvalidInputError, StoreError
from protocols.names import one_line

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TEMPLATES = Path(__file__).parent / "templates"
_SHIPPED = Path(methods.__file__).parent
_TESTS = CHECKOUT / "tests" / "protocols" / "methods"
# How a test finds its method: among those that ship, or in the file beside it.
_AMONG = """\
import pytest
import torch

"""
_BESIDE = """\
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from NAME import Title

"""


def list_names(args: argparse.Namespace) -> int:
    """Print known names with one line each."""
    console, registry = Console(), Registry(tuple(args.plugin))
    kinds = (args.kind.removesuffix("s"),) if args.kind else tuple(KINDS)
    for kind in kinds:
        table = Table(title=f"{kind}s", title_justify="left", box=None, show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for name in registry.names(kind):
            about = registry.usage(kind, name), registry.summary(kind, name)
            table.add_row(*(Text(one_line(words)) for words in about))
        console.print(table, highlight=False)
        for name in registry.names(kind):
            if clash := registry.clash(kind, name):
                said = (
                    f"{kind} {name} cannot be used: {clash}; rename one, or uninstall its package"
                )
                console.print(Text(one_line(said), "yellow"), soft_wrap=True)
        console.print()
    return DONE


def new_method(args: argparse.Namespace) -> int:
    """Write a working plugin and its test; refuse to overwrite anything.

    A test of a method that shall ship lies with the others' tests.
    """
    _check_name(args.name)
    ships = args.folder.resolve() == _SHIPPED.resolve() and _TESTS.is_dir()
    plugin = args.folder / f"{args.name}.py"
    test = (_relative(_TESTS) if ships else args.folder) / f"test_{args.name}.py"
    for target in (plugin, test):
        if target.exists():
            raise StoreError(f"{target} exists already; nothing was written")
    title = args.name.title().replace("_", "")
    words = {"HEAD": _AMONG if ships else _BESIDE}
    words |= {"IMPORT": f"from protocols.methods.{args.name} import {title}\n" if ships else ""}
    words |= {"NAME": args.name, "Title": title}
    for template, target in (("method.py.txt", plugin), ("test_method.py.txt", test)):
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")
        except OSError as error:
            raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
        print(f"wrote {target}")
    named = ["--methods", f"{args.name},triplet", "--out", f"runs-{args.name}"]
    compare = [*([] if ships else ["--plugin", str(plugin)]), *named]
    checked = args.name if ships else str(plugin)
    print(f"check it    python -m benchmark {shlex.join(('check', checked))}")
    print(f"test it     python -m pytest {shlex.quote(str(test))}")
    if ships:
        print(f"tell whose its defaults are, in a line each: {args.folder / 'README.md'}")
    print(f"compare it  python -m benchmark {shlex.join(('run', *compare))}")
    return DONE


def _check_name(name: str) -> None:
    """Raise InvalidInputError unless a method, its file and its class may be called ``name``.

    The file's folder is where its commands are run, so a name that Python imports something else
    by would take that one's place.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"name {name!r}: expected lower-case letters, digits and underscores"
        )
    if fault := naming.fault(name):
        raise InvalidInputError(f"name {name!r}: {fault}; choose another name")
    if name in Registry().names("method"):
        raise InvalidInputError(f"a method {name!r} exists already; choose another name")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise InvalidInputError(f"name {name!r}: a word of Python's own; choose another name")
    if find_spec(name) is not None and not (Path.cwd() / f"{name}.py").exists():
        raise InvalidInputError(
            f"name {name!r}: a package of that name is installed, and the file would be imported "
            "in its place; choose another name"
        )


def _relative(folder: Path) -> Path:
    """Return a folder as seen from here, where it lies below."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
