"""The commands around methods: known names, the contract's checks, a new plugin."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmark.engines.starting import check_address_space, check_system
from benchmark.exit_codes import DONE, FAILED_JOBS
from protocols.discovery import KINDS, Registry
from protocols.errors import InvalidInputError, StoreError

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
            table.add_row(registry.usage(kind, name), registry.summary(kind, name))
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
    method = registry.load("method", name)

    import torch  # after the name is known to be good

    from protocols.conformance import CHECKS

    torch.set_num_threads(1)
    console, failed = Console(), 0
    for test in CHECKS:
        claim = (test.__doc__ or test.__name__).split("\n")[0]
        try:
            test(method)
        # Whatever a method under test raises is a finding, printed with its type.
        except Exception as error:
            failed += 1
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            console.print(f"[red]fails[/] {claim}", highlight=False)
            console.print(f"      {kind}{error}", highlight=False, markup=False)
        else:
            console.print(f"[green]keeps[/] {claim}", highlight=False)
    verdict = f"{len(CHECKS) - failed} of {len(CHECKS)} checks kept"
    console.print(f"{name}: {verdict}", highlight=False)
    return FAILED_JOBS if failed else DONE


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
