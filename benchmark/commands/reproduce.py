"""Our numbers beside published ones. Nothing is run: what is missing is named, with its command."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.commands.lines import Tables, counted, say, say_reading
from benchmark.commands.proposal import continuing_command
from benchmark.exit_codes import DONE
from benchmark.statistics.paired import LEVEL, ROPE
from benchmark.statistics.prediction import TOLD
from benchmark.study.folder import Study, load_study
from benchmark.study.scores import NOTHING, label_of, per_cent
from protocols import paper
from protocols.errors import InvalidInputError
from protocols.names import one_line
from protocols.protocol import protocol_line

if TYPE_CHECKING:
    from benchmark.tables.beside_paper import Apart, Compared

COLUMNS = ("method", "metric", "paper", "runs", "ours", "ours - paper", "verdict")
HOW = f"""\
±: how far from our mean the paper's must lie, t(n - 1) · s · √(1/n + 1/{paper.RUNS}). The mean \
of {paper.RUNS} runs falls in there in {100 * LEVEL:g} % of exact repetitions{{of}}. {paper.RUNS} \
runs is what the paper is taken to have made, as no opened source prints their number. verdict: \
consistent if all of that lies within {100 * ROPE:g} points of the paper's mean, different if the \
paper's mean lies outside of it, else it cannot tell."""
ONE_SEARCH = """\
How much searches vary is not in it: if as much as seeds do, an exact repetition with 10 seeds is \
inside in 49 % only. run --search-repeats 3 measures it."""
SEARCHES = f"""\
Of H searches: mean of their means ± t(H - 1) · their sd · √(1/H + max(1, n/{paper.RUNS})), with \
the variance of searches in it."""
CHOSEN = f"{paper.WORK}, under the settings its searches chose"


def reproduce(args: argparse.Namespace) -> int:
    """Print the table asked for."""
    console = Console()
    if args.methods and args.table != "published":
        raise InvalidInputError(
            f"--methods with --table {args.table}, which has all methods of the paper: leave one "
            "of the two out, or take --table published"
        )
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
    chosen = study is not None and study.protocol.params == "published"
    notes = Footnotes()
    own = [row for row in rows if row.published.work == paper.WORK]
    later = [row for row in rows if row.published.work != paper.WORK]
    several = len({row.trunk for row in own if row.ours}) > 1
    for embedding in dict.fromkeys(row.embedding for row in own):
        title = f"{CHOSEN if chosen else paper.WORK} · {dataset}, {embedding}, per cent"
        shown = [_cells(row, several, notes) for row in own if row.embedding == embedding]
        console.print(Fitted(Headline(title, COLUMNS, shown, "")), highlight=False)
    for line in _how_to_read(own, chosen):
        console.print(line, highlight=False)
    _show_later(console, dataset, later, notes)
    notes.show(console)
    if study:
        console.print(protocol_line(study.protocol), highlight=False)
    if apart:
        _show_apart(console, apart)
    _show_missing(console, dataset, study, out, own)


class Footnotes:
    """What is said below the tables, each once, and the marks that lead there."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def marks(self, said: Iterable[str]) -> str:
        """Return the marks of footnotes, to be put behind a cell; new ones get the next number."""
        found = ""
        for text in said:
            if text not in self._said:
                self._said.append(text)
            found += f" [{self._said.index(text) + 1}]"
        return found

    def show(self, console: Console) -> None:
        """Print all that was marked."""
        for number, text in enumerate(self._said, 1):
            console.print(f"[{number}] {one_line(text)}", highlight=False, markup=False)


def _cells(row: Compared, several: bool, notes: Footnotes) -> tuple[str, ...]:
    """Return the columns of a row, in per cent; the trunk is named where there are several."""
    name = row.method
    if several and row.trunk:
        name += f" ({row.trunk})"
    name += notes.marks((*row.notes, *row.doubts))
    papers = per_cent(row.published.value) + notes.marks((_source(row),))
    cells = (name, label_of(row.metric), papers)
    if row.ours is None or row.runs is None:
        return (*cells, *[NOTHING] * 4)
    ours, difference, mean = row.ours, NOTHING, per_cent(row.ours.mean)
    if row.runs.whole and ours.mean is not None:
        difference = per_cent(ours.mean - row.published.value, sign="+")
        if ours.high is not None:
            mean += f" ± {per_cent(ours.high - ours.mean)}"
    return (*cells, row.runs.words, mean, difference, row.told or NOTHING)


def _source(row: Compared) -> str:
    """Return where a published mean was read, and what that means for it."""
    published, said = row.published, row.published.source
    if published.read_error:
        said += f"; ± {per_cent(published.read_error)} points, which both words allow for"
    return f"{said}: no verdict" if published.doubtful else said


def _how_to_read(rows: Sequence[Compared], chosen: bool) -> Iterator[str]:
    """Yield what intervals and words mean, as far as there are any, and how many there are."""
    searches = {row.ours.searches for row in rows if row.ours and row.ours.low is not None}
    if searches:
        words = [HOW.format(of=" with the same settings" if chosen else " of one search")]
        words += [ONE_SEARCH] if 1 in searches and not chosen else []
        yield " ".join([*words, *([SEARCHES] * (searches != {1}))])
    told = Counter(row.told for row in rows if row.told)
    if told:
        lines = counted(told.total(), "line")
        found = ", ".join(f"{told[word]} {word}" for word in TOLD)
        by_chance = (1 - LEVEL) * told.total()
        yield (
            f"{lines} judged: {found}. By chance at most {by_chance:.1f} would be different "
            f"({100 * (1 - LEVEL):.0f} % of exact repetitions); lines of one method share their "
            "runs, so they err together."
        )


def _show_later(console: Console, dataset: str, rows: Sequence[Compared], notes: Footnotes) -> None:
    """Print what later works published under the paper's rules, a block for each."""
    for work in dict.fromkeys(row.published.work for row in rows):
        tables = Tables(("method", "embedding", "metric"), ("per cent",))
        for row in rows:
            if row.published.work == work:
                value = per_cent(row.published.value) + notes.marks((_source(row),))
                cells = (row.published.title, row.embedding, label_of(row.metric))
                tables.add(f"later work: {work} · {dataset}, not run here", (*cells, value))
        tables.show(console)


def _show_apart(console: Console, apart: Sequence[Apart]) -> None:
    """Print rows on the same dataset that are not the paper's experiment, and why."""
    columns = ("method", "trunk", "recipe", "MAP@R", "not compared: what differs")
    table = Table(title="apart, concatenated, per cent", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in apart:
        names = (row.row, row.trunk, row.recipe)
        part = () if row.runs.whole else (f"runs {row.runs.words}",)
        differs = escape("; ".join((*part, *row.differs)))
        table.add_row(*map(escape, names), per_cent(row.mean), differs)
    console.print(table, highlight=False)


def _show_missing(
    console: Console, dataset: str, study: Study | None, out: Path, rows: Sequence[Compared]
) -> None:
    """Print which rows are not whole, and the command that adds what is missing."""
    parts = {(row.method, row.trunk): row.runs for row in rows if row.runs and not row.runs.whole}
    if parts:
        names = (f"{method} {runs.words}" for (method, _), runs in parts.items())
        failed = any(runs.failed > runs.lost for runs in parts.values())
        say(
            console,
            f"not whole: {'; '.join(names)}. Part of a row is not compared, so it is missing too"
            + "; a run that failed by its method's fault would fail again" * failed,
        )
    missing = {row.method for row in rows if row.runs is None}
    missing |= {method for method, _ in parts}
    if missing:
        again = any(runs.lost for runs in parts.values())
        command = _filling(study, out, dataset, sorted(missing)) + " --retry-failed" * again
        say(console, f"missing: {command}")


def _filling(study: Study | None, out: Path, dataset: str, missing: Sequence[str]) -> str:
    """Return the command that adds missing rows: in this folder if its rules are the paper's."""
    from benchmark.tables.beside_paper import PROTOCOL, rule_differences

    axes: dict[str, Sequence[str]] = {"datasets": (dataset,), "methods": missing}
    if study is None:
        return continuing_command(None, out, axes)
    others = rule_differences(study.protocol, dataset)
    if others or {"trunk", "recipe"} & study.protocol.overrides.keys():
        return continuing_command(None, out.with_name(f"{out.name}-{PROTOCOL}"), axes)
    return continuing_command(study, out, axes)


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
        {"params": ("published",), "datasets": (dataset,), "methods": known},
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
