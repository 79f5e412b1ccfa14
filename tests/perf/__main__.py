"""Measure the lines named (all by default), print one table, write it as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.perf.rows import Row

# Modules are imported when their line is asked for: workers import this file, and must set
# their threads before numpy is loaded.
LINES = {
    "fit": ("fit", "rows"),
    "emoji": ("trials", "emoji"),
    "photographs": ("trials", "photographs"),
    "search": ("search", "rows"),
    "jobs": ("jobs", "rows"),
    "plan": ("studies", "plan"),
    "tables": ("studies", "tabulate"),
    "gpu": ("gpu", "rows"),
}
MARKS = {True: "[green]meets[/]", False: "[red]misses[/]", None: "–"}


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf", description=__doc__)
    parser.add_argument("lines", nargs="*", metavar="LINE", help=f"of {', '.join(LINES)}")
    parser.add_argument("--json", type=Path, default=Path("perf.json"), metavar="FILE")
    args = parser.parse_args()
    unknown = set(args.lines) - set(LINES)
    if unknown:
        parser.error(f"no line {sorted(unknown)[0]!r}; there are {', '.join(LINES)}")
    os.environ["TQDM_DISABLE"] = "1"  # for processes to come: bars would cost the peer time
    console, found = Console(), list[Row]()
    with tempfile.TemporaryDirectory() as scratch:
        for line in args.lines or LINES:
            module, function = LINES[line]
            started = time.perf_counter()
            found += getattr(import_module(f"tests.perf.{module}"), function)(Path(scratch))
            write(args.json, found)  # after every line: the whole takes a quarter of an hour
            console.print(f"{line}: {time.perf_counter() - started:.0f} s", highlight=False)
    console.print(as_table(found))
    console.print(f"written to {args.json}", highlight=False)


def write(path: Path, found: list[Row]) -> None:
    """Write the rows and what they depend on."""
    body = {"machine": machine(), "rows": [{**asdict(r), "passed": r.passed} for r in found]}
    path.write_text(json.dumps(body, indent=1) + "\n")


def as_table(found: list[Row]) -> Table:
    """Return the rows for the terminal."""
    table = Table(title=", ".join(f"{k} {v}" for k, v in machine().items()))
    for column in ("What", "Measured", "Target", "", "n", "Detail"):
        table.add_column(column, overflow="fold")
    for row in found:
        value = "–" if row.ratio is None else f"{row.ratio:.3g} {row.unit}"
        table.add_row(row.what, value, row.target, MARKS[row.passed], str(row.n), row.detail)
    return table


def machine() -> dict[str, str]:
    """Return what the numbers depend on."""
    packages = ("torch", "numpy", "faiss-cpu", "pytorch-metric-learning")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = next(
        (
            line.split(":")[1].strip()
            for line in _lines(Path("/proc/cpuinfo"))
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {"processor": model, "cores": str(cores), **{p: version(p) for p in packages}}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
