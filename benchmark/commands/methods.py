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
from protocols.discovery import KINDS, Registry
from protocols.errors import InvalidInputError, StoreError, in_words
from protocols.names import one_line

if TYPE_CHECKING:
    from protocols.method import Method

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TEMPLATES = Path(__file__).parent / "templates"


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
    """Write a working plugin and its test; refuse to overwrite anything."""
    if not _NAME.fullmatch(args.name):
        raise InvalidInputError(
            f"name {args.name!r}: expected lower-case letters, digits and underscores"
        )
    if args.name in Registry().names("method"):
        raise InvalidInputError(f"a method {args.name!r} exists already; choose another name")
    title = args.name.title().replace("_", "")
    targets = {
        "method.py.txt": args.folder / f"{args.name}.py",
        "test_method.py.txt": args.folder / f"test_{args.name}.py",
    }
    for target in targets.values():
        if target.exists():
            raise StoreError(f"{target} exists already; nothing was written")
    args.folder.mkdir(parents=True, exist_ok=True)
    for template, target in targets.items():
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        target.write_text(text.replace("NAME", args.name).replace("Title", title), "utf-8")
        print(f"wrote {target}")
    plugin = str(targets["method.py.txt"])
    compare = ["run", "--plugin", plugin, "--methods", f"{args.name},triplet"]
    compare += ["--out", f"runs-{args.name}"]
    print(f"check it    python -m benchmark {shlex.join(('check', plugin))}")
    print(f"compare it  python -m benchmark {shlex.join(compare)}")
    return DONE
