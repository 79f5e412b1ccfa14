"""Options of the commands that look after output folders: merge, remove, clean, doctor."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.values import names

Parsers = Any  # argparse's own type of what holds subcommands is private
Adder = Callable[[Parsers, str, str, str, str], argparse.ArgumentParser]


def add(commands: Parsers, adder: Adder, out: Callable[[Any], None]) -> None:
    """Add the commands; ``adder`` makes one, ``out`` gives it the study's folder."""
    merged = adder(commands, "merge", "bring studies made apart into one", "upkeep", "merge")
    merged.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="output folders under equal rules"
    )
    merged.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where to; a study that is there already is one of those merged",
    )
    removed = adder(commands, "remove", "take methods out of a study", "upkeep", "remove")
    removed.add_argument("methods", type=names, metavar="A,B", help="methods or rows, by name")
    removed.add_argument("--datasets", type=names, metavar="A,B", help="only there")
    out(removed)
    cleaned = adder(commands, "clean", "say what can go, and remove it", "upkeep", "clean")
    cleaned.add_argument("--yes", action="store_true", help="remove it without asking")
    out(cleaned)
    looked = adder(commands, "doctor", "say whether a study can run here", "doctor", "doctor")
    looked.add_argument("--root", type=Path, metavar="DIR", help="where prepared datasets lie")
    out(looked)
