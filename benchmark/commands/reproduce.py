"""Our numbers beside published ones. Nothing is run: what is missing is named, with its command."""

from __future__ import annotations

import argparse
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmark.exit_codes import DONE
from benchmark.study.folder import Study, load_study
from benchmark.tables.frames import make_tables
from protocols import paper
from protocols.errors import InvalidInputError
from protocols.protocol import protocol_line

PAPERS_EMBEDDINGS = {"separated_128": "separated", "concatenated_512": "concatenated"}
COLUMNS = ("method", "metric", "paper", "ours", "difference", "interval", "inside")


@dataclass(frozen=True)
class Compared:
    """A published mean and ours; fractions, None where we have none.

    Attributes:
        method: our name, or "" for a method that does not ship.
        title: the name in the source.
        interval: ends of our 95 % interval, None below three runs.
    """

    method: str
    title: str
    embedding: str
    metric: str
    paper: float
    ours: float | None
    interval: tuple[float, float] | None

    def cells(self) -> tuple[str, ...]:
        """Return the columns, in per cent."""
        ours = difference = interval = inside = "–"
        if self.ours is not None:
            ours = f"{100 * self.ours:.2f}"
            difference = f"{100 * (self.ours - self.paper):+.2f}"
        if self.interval is not None:
            low, high = self.interval
            interval = f"{100 * low:.2f} to {100 * high:.2f}"
            inside = "yes" if low <= self.paper <= high else "no"
        name, published = self.method or self.title, f"{100 * self.paper:.2f}"
        return (
            *(name, self.metric, published),
            *(ours, difference, interval, inside),
        )


def reproduce(args: argparse.Namespace) -> int:
    """Print the table asked for."""
    console = Console()
    if args.table == "published":
        show_published(console, args.methods or (), args.dataset)
    elif args.table == "best-hyperparameters":
        show_settings(console, need_dataset(args), args.out)
    else:
        show_results(console, need_dataset(args), args.out)
    return DONE


def need_dataset(args: argparse.Namespace) -> str:
    """Return the dataset, which the paper must have used."""
    if args.dataset not in paper.DATASETS:
        raise InvalidInputError(
            f"--dataset {args.dataset!r}: expected one of {', '.join(paper.DATASETS)}"
        )
    return str(args.dataset)


def show_results(console: Console, dataset: str, out: Path) -> None:
    """Print the paper's means, ours, and the command that would fill what is missing."""
    study = load_study(out)
    rows = compare(dataset, study)
    for embedding in dict.fromkeys(row.embedding for row in rows):
        title = f"A Metric Learning Reality Check · {dataset}, {embedding}, per cent"
        table = Table(*COLUMNS, title=title, box=SIMPLE, padding=(0, 1, 0, 0))
        for row in rows:
            if row.embedding == embedding:
                table.add_row(*row.cells())
        console.print(table, highlight=False)
    if study:
        console.print(protocol_line(study.protocol), highlight=False)
    missing = sorted({row.method for row in rows if row.method and row.ours is None})
    if missing:
        console.print(
            f"missing: python -m benchmark run --protocol reality-check --datasets {dataset} "
            f"--methods {','.join(missing)} --out {out}",
            soft_wrap=True,
            highlight=False,
        )


def compare(dataset: str, study: Study | None) -> list[Compared]:
    """Return one row per published mean of ``dataset``, with ours where the study has it."""
    found = make_tables(study).summary.to_dict("records") if study else []
    ours = {
        (row["method"], row["embedding"], row["metric"]): row
        for row in found
        if row["dataset"] == dataset and row["n"]
    }
    return [
        _compared(row, ours.get((row.method, PAPERS_EMBEDDINGS[row.embedding], row.metric), {}))
        for row in paper.table(dataset)
    ]


def _compared(row: paper.Published, ours: Mapping[Hashable, Any]) -> Compared:
    low = ours.get("ci_low")
    return Compared(
        method=row.method,
        title=row.title,
        embedding=PAPERS_EMBEDDINGS[row.embedding],
        metric=row.metric,
        paper=row.value,
        ours=ours.get("mean"),
        interval=None if low is None or math.isnan(low) else (low, ours["ci_high"]),
    )


def show_settings(console: Console, dataset: str, out: Path) -> None:
    """Print the settings the paper's searches chose, and the command that runs them."""
    table = Table("method", "settings", title=f"chosen by the paper's searches · {dataset}")
    known = [name for name in paper.METHODS if paper.best(name, dataset)]
    for name in known:
        settings = (f"{k} {v:.4g}" for k, v in paper.best(name, dataset).items())
        table.add_row(name, ", ".join(settings))
    console.print(table, highlight=False)
    console.print(
        f"run them: python -m benchmark run --protocol reality-check --params published "
        f"--datasets {dataset} --methods {','.join(known)} --out {out}",
        soft_wrap=True,
        highlight=False,
    )


def show_published(console: Console, methods: Sequence[str], dataset: str | None) -> None:
    """Print figures of the methods' own papers, each with its trunk, size and source."""
    columns = ("method", "dataset", "trunk", "size", "metric", "per cent", "caution", "source")
    table = Table(*columns)
    for row in paper.published(methods, dataset):
        table.add_row(
            row["method"],
            row["dataset"],
            row["trunk"],
            row["embedding_dim"],
            row["metric"],
            row["value_percent"],
            row["caution"] or "–",
            row["source"],
        )
    if not table.row_count:
        raise InvalidInputError(f"no published figure for {', '.join(methods) or 'these names'}")
    console.print(table, highlight=False)
    console.print(
        "Many of these were selected on test classes, and some used cropped images (caution says "
        "where that is known): a run under this harness's rules is expected to be lower.",
        highlight=False,
    )
