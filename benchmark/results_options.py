"""Options of the commands that look after submitted rows: submit, rerun, verify, site."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.values import names

Parsers = Any  # argparse's own type of what holds subcommands is private
Adder = Callable[[Parsers, str, str, str, str], argparse.ArgumentParser]
Option = Callable[[Any], None]


def add(commands: Parsers, adder: Adder, out: Option, price: Option, plugin: Option) -> None:
    """Add the commands; ``adder`` makes one, the others give it the option of their name."""
    submit = adder(commands, "submit", "copy a study's finished cells", "results", "submit")
    _submitted(submit, price, plugin)
    again = adder(commands, "rerun", "prepare a rerun of a row, to verify it", "results", "rerun")
    again.add_argument(
        "row",
        nargs="?",
        type=Path,
        metavar="ROW",
        help="a row's folder, like results/quick/emoji/ms",
    )
    again.add_argument("--voided", action="store_true", help="commands for all void rows instead")
    again.add_argument(
        "--oracle-gap", action="store_true", help="to score its runs on test at every validation"
    )
    out(again)
    verify = adder(commands, "verify", "every problem of results/ at once", "results", "verify")
    verify.add_argument("results", type=Path, metavar="DIR", help="a folder of rows, like results")
    verify.add_argument(
        "--since", metavar="REF", help="also: nothing that this branch or commit has was changed"
    )
    verify.add_argument("--rebuild", action="store_true", help="write the leaderboard first")
    site = adder(commands, "site", "make a static website of results/", "site", "site")
    site.add_argument("results", type=Path, metavar="DIR", help="a folder of rows, like results")
    site.add_argument("--to", type=Path, default=Path("site"), metavar="DIR", help="default: site/")
    site.add_argument("--snapshot", metavar="MONTH", help="freeze the leaderboard as 2026-12 first")


def _submitted(submit: argparse.ArgumentParser, price: Option, plugin: Option) -> None:
    submit.add_argument("study", type=Path, metavar="DIR", help="output folder of a study")
    submit.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="default: results/"
    )
    submit.add_argument("--claim", type=Path, metavar="FILE", help="a filled-in claim.toml")
    submit.add_argument("--who", metavar="NAME", help="who ran it (default: git's user)")
    submit.add_argument("--hardware", metavar="TEXT", help="on what (default: this machine)")
    price(submit)
    plugin(submit)
    for axis in ("methods", "datasets"):
        submit.add_argument(f"--{axis}", type=names, metavar="A,B", help="only their rows")
    submit.add_argument(
        "--challenge",
        metavar="DATE",
        help="submit as a rerun of rows that are there; DATE like 2026-01-31",
    )
    submit.add_argument(
        "--sign", type=Path, metavar="KEY", help="sign with this private SSH key; needs no network"
    )
