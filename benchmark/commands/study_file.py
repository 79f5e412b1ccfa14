"""A study file with every key of a protocol, to be edited."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from benchmark.exit_codes import DONE
from protocols.errors import InvalidInputError, StoreError
from protocols.knobs import KNOBS, value_of
from protocols.protocol import Override, Protocol, shown
from protocols.recipe import Recipe
from protocols.study_file import NAMES


def new_study(args: argparse.Namespace) -> int:
    """Write a study file that shows every key of a protocol, each behind a ``#``."""
    from protocols.discovery import Registry

    registry = Registry(tuple(args.plugin))
    protocol = registry.load("protocol", args.protocol)
    if args.path.suffix != ".toml":
        raise InvalidInputError(f"{args.path}: expected a name that ends in .toml")
    try:
        with args.path.open("x", encoding="utf-8") as file:
            file.write(written(protocol, registry.load("recipe", protocol.recipe), args.path))
    except FileExistsError as error:
        raise StoreError(f"{args.path} exists; it stays as it is. Choose another name") from error
    except OSError as error:
        raise StoreError(f"cannot write {args.path}: {error.strerror}") from error
    print(f"written {args.path}: {args.protocol} with every key. Next: edit it, then")
    print(f"  python -m benchmark plan {shlex.quote(str(args.path))}")
    return DONE


def written(protocol: Protocol, recipe: Recipe, path: Path) -> str:
    """Return a study file's text: the protocol by name, and each of its values in a comment.

    Values that the protocol leaves open stand there empty.
    """
    lines = [
        f"# {protocol.summary}",
        f"# Run it:  python -m benchmark run {shlex.quote(str(path))}",
        "# A line behind a # shows what holds without it. Take the # away to change the value;",
        "# the study then has rules of its own, and its tables say what was changed.",
        "",
        f"protocol = {_toml(protocol.name)}",
        "",
    ]
    own: dict[str, Override | tuple[str, ...]] = {
        "methods": (protocol.baseline,),
        "datasets": protocol.datasets or ("folder:photos",),
        "trunks": (protocol.trunk,),
        "recipes": (protocol.recipe,),
        "plugin": (),
        "weights": "FILE" if protocol.wants_weights else "none",
        "root": "data",
        "out": "runs",
        "search_repeats": 1,
        "oracle_gap": False,
        "match_cost": False,
    }
    lines += [f"# {key} = {_toml(own[key])}  # {words}" for key, words in NAMES.items()]
    table = ""
    for key, knob in KNOBS.items():
        head, dot, rest = key.partition(".")
        if dot and head != table:
            lines += ["", f"[{head}]"]
            table = head
        value = getattr(recipe, rest) if head == "recipe" else value_of(protocol, key)
        typed = "" if value is None else _toml(value)
        words = f"{knob.words}; not set" if value is None else knob.words
        lines.append(f"# {rest if dot else key} = {typed}  # {words}")
    lines += [
        "",
        "# One value fixes a hyperparameter, [low, high] or a list of options narrow its search:",
        "# [method.ms]",
        "# beta = 40",
        "# alpha = [0.1, 10]",
    ]
    return "\n".join(lines) + "\n"


def _toml(value: Override | tuple[str, ...]) -> str:
    """Return a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return shown(value)
