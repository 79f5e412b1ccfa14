"""The headline table, for people: one for each dataset, trunk and recipe.

Only here are fractions multiplied by 100. The frames of :mod:`benchmark.tables` hold more.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from benchmark.statistics import ROPE
from benchmark.study import Study
from benchmark.tables import HEADLINE_METRIC, NAMES, Tables, baselines, to_csv
from protocols.errors import InvalidInputError, unknown_name
from protocols.protocol import Protocol, protocol_line

NOTHING = "–"
# Where a cell breaks, tried until the table fits: nowhere, at asides, before ± too.
_BREAKS = (r"(?!)", r" (?=\(|\d+ failed)", r" (?=± |\(|\d+ failed)")
MARKS = {"better": "▲", "worse": "▼", "equivalent": "="}

Place = tuple[str, str, str]
Row = Any  # a row of DataFrame.itertuples: its attributes are the columns
Parts = dict[tuple[str, str], Row]  # (embedding, metric) to the row of summary


@dataclass(frozen=True)
class Headline:
    """One table as words: what terminal, Markdown and LaTeX all show.

    Attributes:
        title: dataset, trunk and recipe.
        header: column names.
        rows: cells, best method first.
        caption: the rules the numbers were made under, and how to read them.
    """

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    caption: str


def render(tables: Tables, study: Study) -> list[RenderableType]:
    """Return a rich table for each dataset, trunk and recipe; readable from 80 columns on."""
    return [_Fitted(headline) for headline in headlines(tables, study)]


def headlines(tables: Tables, study: Study) -> list[Headline]:
    """Return the headline of each dataset, trunk and recipe, in the frames' order.

    Methods are sorted by their mean concatenated MAP@R. One whose seeds have not all run shows
    no number yet (the frames have what there is) and stands last.
    """
    methods: dict[Place, dict[str, Parts]] = {}
    for row in tables.summary.itertuples(index=False):
        parts = methods.setdefault(_place(row), {}).setdefault(str(row.method), {})
        parts[str(row.embedding), str(row.metric)] = row
    missing = tables.runs[tables.runs["status"] == "missing"]
    unfinished = {(_place(row), str(row.method)) for row in missing.itertuples(index=False)}
    pairs = tables.pairs[
        (tables.pairs["family"] == "baseline")
        & (tables.pairs["embedding"] == "concatenated")
        & (tables.pairs["metric"] == HEADLINE_METRIC)
    ]
    against = {(_place(row), str(row.method_a)): row for row in pairs.itertuples(index=False)}
    found, of_place = [], baselines(study)
    for place, by_method in methods.items():
        done = {m for m, p in by_method.items() if (place, m) not in unfinished and _main(p).n}
        baseline = of_place.get(place)
        differences = {m: against[place, m] for m in done if baseline in done and m != baseline}
        found.append(_headline(place, by_method, done, baseline, differences, study.protocol))
    return found


def to_format(tables: Tables, name: str) -> dict[str, bytes]:
    """Return files in format ``name``, content by file name.

    ``csv`` and ``parquet`` give the four frames; ``md`` and ``latex`` give the headline tables,
    LaTeX as a fragment that needs the package booktabs.

    Raises:
        UnknownNameError: no such format.
        InvalidInputError: parquet without pyarrow.
    """
    if name not in _FORMATS:
        raise unknown_name("format", name, _FORMATS)
    return _FORMATS[name](tables)


def _headline(
    place: Place,
    methods: dict[str, Parts],
    done: set[str],
    baseline: str | None,
    differences: dict[str, Row],
    protocol: Protocol,
) -> Headline:
    def order(method: str) -> tuple[float, str]:
        return (-_main(methods[method]).mean if method in done else 1.0, method)

    rows = []
    for method in sorted(methods, key=order):
        name = f"{method} (baseline)" if method == baseline else method
        numbers = _numbers(methods[method]) if method in done else [NOTHING] * 4
        difference = [_difference(differences.get(method))] if baseline else []
        main = _main(methods[method])
        failed = f", {main.failed_runs} failed" if main.failed_runs else ""
        runs = f"{main.n}/{protocol.seeds}{failed}"
        rows.append((name, *numbers, *difference, runs, str(main.trials)))
    notes = _notes([_main(methods[m]) for m in done], differences, len(methods))
    return Headline(
        f"{' · '.join(place)}: test classes, per cent",
        (
            *("Method", "P@1", "R-Precision", "MAP@R", "MAP@R separated"),
            *([f"vs {baseline}"] if baseline else []),
            *("Runs", "Trials"),
        ),
        rows,
        " · ".join([protocol_line(protocol, place[1]), *notes]),
    )


def _numbers(parts: Parts) -> list[str]:
    separated = parts["separated", HEADLINE_METRIC]
    return [
        f"{100 * parts['concatenated', 'precision_at_1'].mean:.2f}",
        f"{100 * parts['concatenated', 'r_precision'].mean:.2f}",
        _with_half_width(f"{100 * _main(parts).mean:.2f}", _main(parts)),
        _with_half_width(f"{100 * separated.mean:.2f}", separated),
    ]


def _difference(pair: Row | None) -> str:
    if pair is None or not pair.n:
        return NOTHING
    text = _with_half_width(f"{100 * pair.mean_difference:+z.2f}", pair)
    return f"{text} {MARKS.get(pair.verdict, '')}".rstrip()


def _with_half_width(mean: str, row: Row) -> str:
    """Return ``mean`` with the interval's half-width in per cent, alone if there is none."""
    half = (row.ci_high - row.ci_low) / 2
    return mean if math.isnan(half) else f"{mean} ± {100 * half:.2f}"


def _notes(done: list[Row], differences: dict[str, Row], methods: int) -> Iterator[str]:
    """Yield how to read the numbers, as far as the table shows them."""
    if done:
        kinds = ", ".join(sorted({str(row.ci_kind) for row in done}, reverse=True))
        low, high = min(row.n for row in done), max(row.n for row in done)
        yield f"± {kinds}; n = {low}" + (f" to {high}" if high > low else "")
    met = {str(pair.verdict) for pair in differences.values()}
    if marks := [f"{mark} {word}" for word, mark in MARKS.items() if word in met]:
        yield f"{', '.join(marks)} (margin {100 * ROPE:g} points), no mark inconclusive"
    elif met:
        yield "no difference is conclusive"
    if len(done) < methods:
        yield f"{NOTHING} unfinished or failed"


def _main(parts: Parts) -> Row:
    return parts["concatenated", HEADLINE_METRIC]


def _place(row: Row) -> Place:
    return (str(row.dataset), str(row.trunk), str(row.recipe))


@dataclass(frozen=True)
class _Fitted:
    """A headline that breaks its cells where the terminal is too narrow for one line each."""

    headline: Headline

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(width=1000)
        for pattern in _BREAKS:
            table = _rich(self.headline, pattern)
            if console.measure(table, options=unlimited).maximum <= options.max_width:
                break
        yield table


def _rich(headline: Headline, breaks: str) -> Table:
    table = Table(
        title=Text(headline.title, style="bold"),
        caption=Text(headline.caption, style="dim"),
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    for number, name in enumerate(headline.header):
        words = name.replace("R-", "R-\n").replace(" ", "\n", 1)
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(Text(words), justify=justify, no_wrap=number > 0, overflow="fold")
    for row in headline.rows:
        table.add_row(*(Text(re.sub(breaks, "\n", cell)) for cell in row))
    return table


def _markdown(tables: Tables) -> dict[str, bytes]:
    parts = []
    for headline in headlines(tables, tables.study):
        aligned = ("---", *["---:"] * (len(headline.header) - 1))
        lines = [_md_row(headline.header), f"|{'|'.join(aligned)}|", *map(_md_row, headline.rows)]
        title = f"**{_md_text(headline.title)}**"
        parts.append("\n".join([title, "", *lines, "", _md_text(headline.caption), ""]))
    return {"headline.md": "\n".join(parts).encode()}


def _md_row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_md_text, cells))} |"


def _md_text(text: str) -> str:
    return re.sub(r"([\\`*_|<>~\[\]])", r"\\\1", text)


def _latex(tables: Tables) -> dict[str, bytes]:
    parts = ["% In the preamble: \\usepackage{booktabs}\n"]
    for headline in headlines(tables, tables.study):
        lines = [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{f'{headline.title}. {headline.caption}'.translate(_TEX)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(headline.header) - 1)}}}",
            rf"\toprule {_tex_row(headline.header)} \midrule",
            *map(_tex_row, headline.rows),
            r"\bottomrule \end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join([*lines, ""]))
    return {"headline.tex": "\n".join(parts).encode()}


def _tex_row(cells: tuple[str, ...]) -> str:
    first, *rest = (cell.translate(_TEX) for cell in cells)
    return " & ".join([first, *(re.sub(r"^-(?=\d)", "$-$", cell) for cell in rest)]) + r" \\"


def _parquet(tables: Tables) -> dict[str, bytes]:
    files = {}
    for name in NAMES:
        frame, buffer = getattr(tables, name), io.BytesIO()
        text = dict.fromkeys(frame.select_dtypes("object"), "string")  # also where all is empty
        try:
            frame.astype(text).to_parquet(buffer, index=False)
        except ImportError as error:
            raise InvalidInputError(
                "parquet needs the package pyarrow, which is not installed: install it, or use csv"
            ) from error
        files[f"{name}.parquet"] = buffer.getvalue()
    return files


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{"±": r"$\pm$", "·": r"$\cdot$", NOTHING: "--", "<": "$<$", ">": "$>$"},
        **{"▲": r"$\uparrow$", "▼": r"$\downarrow$"},
    }
)
_FORMATS: dict[str, Callable[[Tables], dict[str, bytes]]] = {
    "md": _markdown,
    "csv": lambda tables: {f"{name}.csv": to_csv(getattr(tables, name)) for name in NAMES},
    "latex": _latex,
    "parquet": _parquet,
}
