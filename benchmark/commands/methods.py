"""The commands around methods: known names, the contract's checks, a new plugin."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.engines.starting import check_address_space, check_system
from benchmark.exit_codes import DONE, FAILED_JOBS
from benchmark.study.environment import CHECKOUT
from protocols import methods
from protocols.discovery import KINDS, Registry
from protocols.errors import InvalidInputError, StoreError, in_words
from protocols.names import one_line

if TYPE_CHECKING:
    from protocols.method import Method

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
        console.print()
    return DONE


def check(args: argparse.Namespace) -> int:
    """Run the conformance checks on a method; print a line each."""
    check_system()
    check_address_space()
    path = Path(args.method)
    is_file = path.suffix == ".py" or os.sep in args.method
    registry = Registry((path,) if is_file else ())
    name = path.stem if is_file else args.method
    registry.check("method", name)

    print(f"checking {name}")
    import torch  # after the name is known to be good

    from benchmark.engines.guard import Guard
    from protocols.conformance import CHECKS

    torch.set_num_threads(1)
    guard = Guard()
    method = registry.load("method", name)
    console, kept = Console(), 0
    for test in CHECKS:
        kept += _say(console, (test.__doc__ or test.__name__).split("\n")[0], _met(test, method))
    changed = ", ".join(guard.changed())
    meddles = changed and f"others would start from what it changed: {changed}"
    kept += _say(console, "It leaves its process as it found it.", meddles)
    console.print(f"{name}: {kept} of {len(CHECKS) + 1} checks kept", highlight=False)
    return DONE if kept == len(CHECKS) + 1 else FAILED_JOBS


def _met(test: Callable[[type[Method]], None], method: type[Method]) -> str:
    """Return what a check found wrong, "" if nothing."""
    try:
        test(method)
    except KeyboardInterrupt:
        raise
    # Broad: whatever a method under test raises is a finding, sys.exit too.
    except BaseException as error:
        return str(error) if type(error) is AssertionError else in_words(error)
    return ""


def _say(console: Console, claim: str, wrong: str) -> bool:
    """Print a line for a claim, one more for what is ``wrong``; return whether it is kept."""
    console.print(
        f"[red]fails[/] {claim}" if wrong else f"[green]keeps[/] {claim}", highlight=False
    )
    if wrong:
        console.print(f"      {wrong}", highlight=False, markup=False)
    return not wrong


def new_method(args: argparse.Namespace) -> int:
    """Write a working plugin and its test; refuse to overwrite anything.

    A test of a method that shall ship lies with the others' tests.
    """
    if not _NAME.fullmatch(args.name):
        raise InvalidInputError(
            f"name {args.name!r}: expected lower-case letters, digits and underscores"
        )
    if args.name in Registry().names("method"):
        raise InvalidInputError(f"a method {args.name!r} exists already; choose another name")
    ships = args.folder.resolve() == _SHIPPED.resolve() and _TESTS.is_dir()
    plugin = args.folder / f"{args.name}.py"
    test = (_relative(_TESTS) if ships else args.folder) / f"test_{args.name}.py"
    for target in (plugin, test):
        if target.exists():
            raise StoreError(f"{target} exists already; nothing was written")
    args.folder.mkdir(parents=True, exist_ok=True)
    title = args.name.title().replace("_", "")
    words = {"HEAD": _AMONG if ships else _BESIDE}
    words |= {"IMPORT": f"from protocols.methods.{args.name} import {title}\n" if ships else ""}
    words |= {"NAME": args.name, "Title": title}
    for template, target in (("method.py.txt", plugin), ("test_method.py.txt", test)):
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        target.write_text(text, "utf-8")
        print(f"wrote {target}")
    named = ["--methods", f"{args.name},triplet", "--out", f"runs-{args.name}"]
    compare = [*([] if ships else ["--plugin", str(plugin)]), *named]
    print(f"check it    python -m benchmark {shlex.join(('check', str(plugin)))}")
    print(f"test it     python -m pytest {shlex.quote(str(test))}")
    if ships:
        print(f"tell whose its defaults are, in a line each: {args.folder / 'README.md'}")
    print(f"compare it  python -m benchmark {shlex.join(('run', *compare))}")
    return DONE


def _relative(folder: Path) -> Path:
    """Return a folder as seen from here, where it lies below."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
