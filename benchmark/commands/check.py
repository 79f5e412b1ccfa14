"""The command ``check``: whether a method or a trunk keeps its contract, a line for each claim."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmark.commands.row_names import unfit
from benchmark.engines.starting import check_address_space, check_system
from benchmark.exit_codes import DONE, FAILED_JOBS
from protocols.blame import explained, modules_of, raised
from protocols.discovery import Registry, recipes_with
from protocols.errors import InvalidInputError, unknown_name

if TYPE_CHECKING:  # it imports torch, which --help does without
    from protocols.method import Method

Claim = tuple[str, Callable[[], None]]  # its words, and what raises where it does not hold
CHECKED = ("method", "trunk")


def check(args: argparse.Namespace) -> int:
    """Run the conformance checks on a method or a trunk; print a line each."""
    check_system()
    check_address_space()
    path = Path(args.name)
    is_file = path.suffix == ".py" or (os.sep in args.name and ":" not in args.name)
    registry = Registry((*args.plugin, *((path,) if is_file else ())))
    name = path.stem if is_file else args.name
    kind = _kind(registry, name)
    registry.check(kind, name)

    print(f"checking {name}")
    import torch  # after the name is known to be good

    from benchmark.engines.guard import Guard

    torch.set_num_threads(1)
    _import_what_ships()
    guard = Guard()
    claims = _of_method(registry, name) if kind == "method" else _of_trunk(registry, name)
    console, kept = Console(), 0
    first: dict[str, str] = {}  # what was found wrong -> the claim under which it was told
    for words, test in claims:
        kept += _say(console, words, _met(test), first)
    changed = ", ".join(guard.changed())
    meddles = changed and f"others would start from what it changed: {changed}"
    kept += _say(console, "It leaves its process as it found it.", meddles, first)
    console.print(f"{name}: {kept} of {len(claims) + 1} checks passed", highlight=False)
    if kind == "method" and (reason := unfit(name)):
        console.print(reason, highlight=False, markup=False)
    if kind == "method" and kept > len(claims):  # one that fails may not even be built
        for condition in _conditions(registry.load("method", name)):
            console.print(condition, highlight=False, markup=False)
    return DONE if kept == len(claims) + 1 else FAILED_JOBS


def _import_what_ships() -> None:
    """Import what methods are tested by and compared with: a guard sees only what is there."""
    shipped = Registry()
    for name in shipped.names("method"):
        if shipped.ships("method", name):
            shipped.load("method", name)
    for module in ("protocols.conformance", "protocols.metrics", "benchmark.training.job"):
        import_module(module)


def _kind(registry: Registry, name: str) -> str:
    """Return what ``name`` names, of what can be checked.

    Raises:
        UnknownNameError: neither a method nor a trunk.
        InvalidInputError: a recipe or a protocol, which a study checks where it starts.
    """
    stem = name.partition(":")[0]
    for kind in ("protocol", "recipe"):
        if name in registry.own(kind):
            raise InvalidInputError(
                f"{name} is a {kind}; checked are methods and trunks. plan --plugin reads it"
            )
    for kind in CHECKED:
        if stem in registry.names(kind):
            return kind
    known = [each for kind in CHECKED for each in registry.names(kind)]
    raise unknown_name("method or trunk", stem, known)


def _of_method(registry: Registry, name: str) -> Sequence[Claim]:
    from protocols.conformance import CHECKS

    method = registry.load("method", name)
    return [(_claimed(test), partial(test, method)) for test in CHECKS]


def _conditions(method: type[Method]) -> list[str]:
    """Return where a study refuses a method that keeps every claim, in words."""
    from protocols.conformance_teacher import ever_taught

    why = ["has a teacher"] if ever_taught(method) else []
    why += ["sees several batches at once"] if method.wants.batches > 1 else []
    if not why or method.trunk == "frozen":  # such a trunk's BatchNorm is live under no recipe
        return []
    return [
        f"It {' and '.join(why)}: on a trunk with BatchNorm, as tiny is, run refuses it under "
        f"recipes that keep BatchNorm live ({', '.join(recipes_with('live'))}). Add "
        f"--recipes {recipes_with('frozen_stats')[0]}"
    ]


def _of_trunk(registry: Registry, name: str) -> Sequence[Claim]:
    from protocols.conformance_trunk import CHECKS
    from protocols.toy_trunk import Candidate

    inner = registry.inside("trunk", name)
    candidate = Candidate(
        registry.load("trunk", name).build,
        registry.load("trunk", inner).build if inner else None,
        registry.starts_at_random(name),
    )
    return [(_claimed(test), partial(test, candidate)) for test in CHECKS]


def _claimed(test: Callable[..., None]) -> str:
    return (test.__doc__ or test.__name__).split("\n")[0]


def _met(test: Callable[[], None]) -> str:
    """Return what a check found wrong, "" if nothing."""
    try:
        test()
    except KeyboardInterrupt:
        raise
    # Broad: whatever a method or trunk under test raises is a finding, sys.exit too.
    except BaseException as error:
        from protocols.method import Method  # torch is there by now

        others = modules_of(Method)
        ours = type(error) is AssertionError and not raised(error, others)
        return (ours and str(error)) or explained(error, others)
    return ""


def _say(console: Console, claim: str, wrong: str, first: dict[str, str]) -> bool:
    """Print a line for a claim, one more for what is ``wrong``; return whether it is kept.

    One mistake may fail many claims: what was told under an earlier one is not told again.
    ``first`` holds it with that claim, what was met last at its end.
    """
    console.print(
        f"[red]fails[/]  {claim}" if wrong else f"[green]passes[/] {claim}", highlight=False
    )
    if wrong:
        told, last, before = wrong, next(reversed(first), ""), first.pop(wrong, "")
        if before:
            told = "as above"
            if wrong != last:
                told += f", under: {textwrap.shorten(before, 50, placeholder=' ...')}"
        first[wrong] = before or claim
        console.print(f"      {told}", highlight=False, markup=False)
    return not wrong
