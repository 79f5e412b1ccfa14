"""Our numbers beside published ones. Nothing is run: what is missing is named, with its command."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmark import study as studies
from benchmark.cli import DONE
from benchmark.tables import frames
from protocols import paper
from protocols.errors import InvalidInputError
from protocols.protocol import protocol_line

EMBEDDINGS = {"separated_128": "separated", "concatenated_512": "concatenated"}
COLUMNS = ("method", "embedding", "metric", "paper", "ours", "difference", "interval", "inside")


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
    """Print the paper's means, ours, and the commands that would fill what is missing."""
    rows = compare(dataset, out)
    table = Table(*COLUMNS, title=f"A Metric Learning Reality Check · {dataset}, per cent")
    for row in rows.itertuples(index=False):
        ours = "–" if pd.isna(row.ours) else f"{100 * row.ours:.2f}"
        difference = "–" if pd.isna(row.difference) else f"{100 * row.difference:+.2f}"
        ends = (row.low, row.high)
        interval = "–" if pd.isna(row.low) else " to ".join(f"{100 * end:.2f}" for end in ends)
        inside = "–" if pd.isna(row.low) else "yes" if row.low <= row.paper <= row.high else "no"
        name = f"{row.method}" if row.method else row.title
        paper_mean = f"{100 * row.paper:.2f}"
        table.add_row(
            name, row.embedding, row.metric, paper_mean, ours, difference, interval, inside
        )
    console.print(table, highlight=False)
    study = studies.load(out)
    if study:
        console.print(protocol_line(study.protocol), highlight=False)
    missing = sorted(
        {str(row.method) for row in rows.itertuples() if row.method and pd.isna(row.ours)}
    )
    if missing:
        console.print(
            f"missing: python -m benchmark run --protocol reality-check --datasets {dataset} "
            f"--methods {','.join(missing)} --out {out}",
            soft_wrap=True,
            highlight=False,
        )


def compare(dataset: str, out: Path) -> pd.DataFrame:
    """Return one row per published mean of ``dataset``, with ours where the study has it.

    Fractions. ``low`` and ``high`` are the ends of our interval; ours is missing (NaN) for a
    method that has not run.
    """
    study = studies.load(out)
    summary = frames(study).summary if study else None
    return pd.DataFrame(list(_rows(dataset, summary)))


def _rows(dataset: str, summary: pd.DataFrame | None) -> Iterator[dict[str, object]]:
    for row in paper.table(dataset):
        embedding = EMBEDDINGS[row.embedding]
        ours = _ours(summary, dataset, row.method, embedding, row.metric)
        mean = float("nan") if ours is None else float(ours["mean"])
        yield {
            "title": row.title,
            "method": row.method,
            "embedding": embedding,
            "metric": row.metric,
            "paper": row.value,
            "ours": mean,
            "difference": mean - row.value,
            "low": float("nan") if ours is None else float(ours["ci_low"]),
            "high": float("nan") if ours is None else float(ours["ci_high"]),
            "source": row.source,
        }


def _ours(
    summary: pd.DataFrame | None, dataset: str, method: str, embedding: str, metric: str
) -> pd.Series | None:
    if summary is None:
        return None
    place = {"dataset": dataset, "method": method, "embedding": embedding, "metric": metric}
    found = summary
    for column, value in place.items():
        found = found[found[column] == value]
    return found.iloc[0] if len(found) and found.iloc[0]["n"] else None


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
    table = Table("method", "dataset", "trunk", "size", "metric", "per cent", "source")
    for row in paper.published(methods, dataset):
        table.add_row(
            row["method"],
            row["dataset"],
            row["trunk"],
            row["embedding_dim"],
            row["metric"],
            row["value_percent"],
            row["source"],
        )
    if not table.row_count:
        raise InvalidInputError(f"no published figure for {', '.join(methods) or 'these names'}")
    console.print(table, highlight=False)
    console.print(
        "Most of these were selected on test classes, and some used cropped images: a run under "
        "this harness's rules is expected to be lower.",
        highlight=False,
    )
