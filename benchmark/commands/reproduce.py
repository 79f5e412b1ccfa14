"""Our numbers beside published ones. Nothing is run: what is missing is named, with its command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.commands.lines import Tables, say, say_reading
from benchmark.commands.proposal import continuing_command
from benchmark.exit_codes import DONE
from benchmark.study.folder import Study, load_study
from benchmark.study.scores import NOTHING, per_cent
from protocols import paper
from protocols.errors import InvalidInputError
from protocols.protocol import protocol_line

if TYPE_CHECKING:
    from benchmark.tables.beside_paper import Apart, Compared

COLUMNS = ("method", "metric", "paper", "ours", "difference", "paper's must lie in", "inside")
HOW = f"""\
paper's must lie in: our mean ± t(n - 1) · s · √(1/n + 1/{paper.RUNS}), where the mean of the \
paper's {paper.RUNS} runs falls in 95 % of exact repetitions of one search."""
ONE_SEARCH = """\
How much searches vary is not in it: if as much as seeds do, an exact repetition with 10 seeds is \
inside in 49 % only. run --search-repeats 3 measures it."""
SEARCHES = f"""\
Of H searches: mean of their means ± t(H - 1) · their sd · √(1/H + max(1, n/{paper.RUNS})), with \
the variance of searches in it."""


def reproduce(args: argparse.Namespace) -> int:
    """Print the table asked for."""
    console = Console()
    if args.table == "published":
        show_published(console, args.methods or (), args.dataset)
    elif args.table == "best-hyperparameters":
        for dataset in asked_datasets(args):
            show_settings(console, dataset, args.out)
    else:
        say_reading(f"the paper's numbers, and {args.out}")
        for dataset in asked_datasets(args):
            show_results(console, dataset, args.out)
    return DONE


def asked_datasets(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the dataset that is asked for, which the paper must have used; all without one."""
    if args.dataset is None:
        return paper.DATASETS
    if args.dataset not in paper.DATASETS:
        raise InvalidInputError(
            f"--dataset {args.dataset!r}: expected one of {', '.join(paper.DATASETS)}"
        )
    return (str(args.dataset),)


def show_results(console: Console, dataset: str, out: Path) -> None:
    """Print the paper's means, ours where the rules are its, what is apart, and what is missing."""
    from benchmark.tables.beside_paper import compare  # here: they import pandas
    from benchmark.tables.formats import Fitted
    from benchmark.tables.headlines import Headline

    study = load_study(out)
    rows, apart = compare(dataset, study)
    several = len({row.trunk for row in rows if row.ours}) > 1
    for embedding in dict.fromkeys(row.embedding for row in rows):
        title = f"A Metric Learning Reality Check · {dataset}, {embedding}, per cent"
        shown = [_cells(row, several) for row in rows if row.embedding == embedding]
        console.print(Fitted(Headline(title, COLUMNS, shown, "")), highlight=False)
    if searches := {row.ours.searches for row in rows if row.ours}:
        words = [HOW, *([ONE_SEARCH] if 1 in searches else []), *([SEARCHES] * (searches != {1}))]
        console.print(" ".join(words), highlight=False)
    if study:
        console.print(protocol_line(study.protocol), highlight=False)
    if apart:
        _show_apart(console, apart)
    missing = sorted({row.method for row in rows if row.method and row.ours is None})
    if missing:
        command = _filling(study, out, dataset, missing)
        say(console, f"missing: {command}")


def _cells(row: Compared, several: bool) -> tuple[str, ...]:
    """Return the columns of a row, in per cent; the trunk is named where there are several."""
    name = row.method or row.title
    if several and row.trunk:
        name += f" ({row.trunk})"
    cells = [name, row.metric, per_cent(row.paper)]
    if row.ours is None or row.ours.mean is None:
        return (*cells, *[NOTHING] * 4)
    ours, interval, inside = row.ours, NOTHING, NOTHING
    if ours.low is not None and ours.high is not None:
        interval = f"{per_cent(ours.low)} to {per_cent(ours.high)}"
        inside = "yes" if ours.low <= row.paper <= ours.high else "no"
    difference = per_cent(row.ours.mean - row.paper, sign="+")
    return (*cells, per_cent(ours.mean), difference, interval, inside)


def _show_apart(console: Console, apart: Sequence[Apart]) -> None:
    """Print rows on the same dataset that are not the paper's experiment, and why."""
    columns = ("method", "trunk", "recipe", "MAP@R", "not compared: what differs")
    table = Table(title="apart, concatenated, per cent", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in apart:
        names = (row.row, row.trunk, row.recipe)
        table.add_row(*map(escape, names), per_cent(row.mean), escape("; ".join(row.differs)))
    console.print(table, highlight=False)


def _filling(study: Study | None, out: Path, dataset: str, missing: Sequence[str]) -> str:
    """Return the command that adds missing rows: in this folder if its rules are the paper's."""
    from benchmark.tables.beside_paper import PROTOCOL, rule_differences

    axes = {"datasets": (dataset,), "methods": missing}
    if study is None:
        return continuing_command(None, out, **axes)
    others = rule_differences(study.protocol, dataset)
    if others or {"trunk", "recipe"} & study.protocol.overrides.keys():
        return continuing_command(None, out.with_name(f"{out.name}-{PROTOCOL}"), **axes)
    return continuing_command(study, out, **axes)


def show_settings(console: Console, dataset: str, out: Path) -> None:
    """Print the settings the paper's searches chose, and the command that runs them."""
    table = Table("method", "settings", title=f"chosen by the paper's searches · {dataset}")
    known = [name for name in paper.METHODS if paper.best(name, dataset)]
    for name in known:
        settings = (f"{k} {v:.4g}" for k, v in paper.best(name, dataset).items())
        table.add_row(name, ", ".join(settings))
    console.print(table, highlight=False)
    command = continuing_command(
        None,
        _folder_of_its_own(out),
        params=("published",),
        datasets=(dataset,),
        methods=known,
    )
    say(console, f"run them: {command}")


def _folder_of_its_own(out: Path) -> Path:
    """Return ``out`` unless it holds a study that searched: the two cannot share a folder."""
    study = load_study(out)
    searched = study is not None and study.protocol.params != "published"
    return out.with_name(f"{out.name}-published") if searched else out


def _under(row: Mapping[str, str]) -> str:
    """Return what published figures share: method, trunk, size, what to beware of, and source."""
    size = f"{row['embedding_dim']} dimensions" if row["embedding_dim"].isdecimal() else ""
    made = (row["method"], row["trunk"], size or row["embedding_dim"], row["caution"])
    return f"{', '.join(part for part in made if part)}: {row['source']}"


def show_published(console: Console, methods: Sequence[str], dataset: str | None) -> None:
    """Print figures of the methods' own papers, each with its trunk, size and source."""
    rows = list(paper.published(methods, dataset))
    if not rows:
        raise InvalidInputError(f"no published figure for {', '.join(methods) or 'these names'}")
    say(console, "figures of the methods' own papers:")
    tables = Tables(("dataset", "metric"), ("per cent",))
    for row in rows:
        # Underscores join what a narrow terminal has to break.
        cells = (row["dataset"], row["metric"].replace("_", " "), row["value_percent"])
        tables.add(_under(row), tuple(cell or NOTHING for cell in cells))
    tables.show(console)
    console.print(
        "Many of these were selected on test classes, and some used cropped images (caution says "
        "where that is known): a run under this harness's rules is expected to be lower.",
        highlight=False,
    )
