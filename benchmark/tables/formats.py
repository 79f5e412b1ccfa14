"""The tables for people in their formats: terminal, Markdown, LaTeX; and the frames in theirs."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from benchmark.study.scores import MARKS, NOTHING
from benchmark.tables.beyond import further
from benchmark.tables.bibliography import keys_of, to_bibtex
from benchmark.tables.csv_files import to_csv
from benchmark.tables.every_eval import to_records
from benchmark.tables.frames import Tables
from benchmark.tables.headlines import Headline, headlines
from protocols.errors import InvalidInputError, unknown_name
from protocols.names import one_line

# Where cells may break into lines. Each is tried until the table fits the terminal: nowhere;
# before brackets and counts of what failed; also before ±; also before marks; also behind the ±
# in brackets.
_BREAKS = (
    r"(?!)",
    r" (?=\(|\d+ (?:failed|lost))",
    r" (?=± |\(|\d+ (?:failed|lost))",
    rf" (?=± |\(|\d+ (?:failed|lost)|[{''.join(MARKS.values())}])",
    rf" (?=± |\(|\d+ (?:failed|lost)|[{''.join(MARKS.values())}])|(?<=\(±) ",
)


def render(tables: Tables) -> list[RenderableType]:
    """Return the headlines and what :func:`further` adds; readable from 80 columns on."""
    return [Fitted(table) for table in (*headlines(tables), *further(tables))]


def to_format(tables: Tables, name: str) -> dict[str, bytes]:
    """Return files in format ``name``, content by file name.

    ``csv`` and ``parquet`` give the frames; ``md`` and ``latex`` give the tables for people,
    LaTeX as a fragment that needs the package booktabs, which cites the papers that come with it
    as BibTeX: the protocol's and the dataset's in the caption, each method's behind its name.
    ``every-eval-ever`` gives a JSON file for each row, see :mod:`benchmark.tables.every_eval`.

    Raises:
        UnknownNameError: no such format.
        InvalidInputError: parquet without pyarrow.
    """
    if name not in _FORMATS:
        raise unknown_name("format", name, _FORMATS)
    return _FORMATS[name](tables)


@dataclass(frozen=True)
class Fitted:
    """A headline that fits the terminal.

    Where that is too narrow for one line each, cells are broken; where that is not enough, there
    are several tables one below the other, with the first column in each.
    """

    headline: Headline

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(width=1000)

        def fits(columns: Sequence[int], breaks: str) -> bool:
            table = _rich(self.headline, columns, breaks)
            return console.measure(table, options=unlimited).maximum <= options.max_width

        every = range(len(self.headline.header))
        parts = list(_parts(every, partial(fits, breaks=_BREAKS[-1])))
        caption = Text(one_line(self.headline.caption), style="dim")
        for columns in parts:
            breaks = next((b for b in _BREAKS if fits(columns, b)), _BREAKS[-1])
            table = _rich(self.headline, columns, breaks)
            if columns == parts[0]:
                table.title = Text(one_line(self.headline.title), style="bold")
            if len(parts) == 1:
                table.caption = caption
            yield table
        if len(parts) > 1:
            yield caption


def _parts(columns: Sequence[int], fits: Callable[[Sequence[int]], bool]) -> Iterator[list[int]]:
    """Yield the columns of tables that stand one below the other, each with the first of them."""
    first, *others = columns
    part = [first]
    for column in others:
        if len(part) > 1 and not fits([*part, column]):
            yield part
            part = [first]
        part.append(column)
    yield part


def _rich(headline: Headline, columns: Sequence[int], breaks: str) -> Table:
    """Return some columns of a headline as a table, its cells in lines where ``breaks`` says."""
    table = Table(
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    for number in columns:
        words = headline.header[number].replace("R-", "R-\n").replace(" ", "\n", 1)
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(Text(words), justify=justify, no_wrap=number > 0, overflow="fold")
    for row in headline.rows:
        cells = (one_line(row[number]) for number in columns)
        table.add_row(*(Text(re.sub(breaks, "\n", cell)) for cell in cells))
    return table


def _markdown(tables: Tables) -> dict[str, bytes]:
    parts = []
    for headline in (*headlines(tables), *further(tables)):
        aligned = ("---", *["---:"] * (len(headline.header) - 1))
        lines = [_md_row(headline.header), f"|{'|'.join(aligned)}|", *map(_md_row, headline.rows)]
        title = f"**{_md_text(headline.title)}**"
        parts.append("\n".join([title, "", *lines, "", _md_text(headline.caption), ""]))
    return {"headline.md": "\n".join(parts).encode()}


def _md_row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_md_text, cells))} |"


def _md_text(text: str) -> str:
    return re.sub(r"([\\`*_|<>~\[\]])", r"\\\1", one_line(text))


def _latex(tables: Tables) -> dict[str, bytes]:
    methods = {cell.row: cell.method for cell in tables.study.cells}
    parts = ["% In the preamble: \\usepackage{booktabs}\n"]
    for headline in (*headlines(tables), *further(tables)):
        sentence = "".join(_tex_text(text) + _tex_cite(name) for text, name in headline.sentence)
        rows = zip(headline.names, headline.rows, strict=True)
        lines = [
            r"\begin{table}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{sentence}}}",
            rf"\makebox[\linewidth]{{\begin{{tabular}}{{l{'r' * (len(headline.header) - 1)}}}",
            rf"\toprule {_tex_head(headline.header)} \midrule",
            *(_tex_row(cells, name, methods.get(name, "")) for name, cells in rows),
            r"\bottomrule \end{tabular}}",
            r"\par\smallskip",
            rf"\parbox{{\linewidth}}{{\raggedright {_tex_text(headline.caption)}}}",
            r"\end{table}",
        ]
        parts.append("\n".join([*lines, ""]))
    return {"headline.tex": "\n".join(parts).encode()}


def _tex_row(cells: tuple[str, ...], name: str = "", method: str = "") -> str:
    """Return a row of cells. The first begins with ``name``; behind it ``method`` is cited."""
    first = _tex_text(name) + _tex_cite(method) + _tex_text(cells[0].removeprefix(name))
    if first.startswith(("[", "*")):  # the line above would take it for how far to go down
        first = "{}" + first
    rest = [re.sub(r"^-(?=\d)", "$-$", _tex_text(cell)) for cell in cells[1:]]
    return " & ".join([first, *rest]) + r" \\"


def _tex_cite(name: str) -> str:
    """Return the citation of the papers that ``name`` is from, nothing where there are none."""
    return rf"~\cite{{{','.join(keys)}}}" if (keys := keys_of(name)) else ""


def _tex_head(names: tuple[str, ...]) -> str:
    """Return column names in two rows, words one above the other: else tables leave the page."""
    parts = [name.partition(" ") for name in names]
    upper = tuple(first if rest else "" for first, _, rest in parts)
    return f"{_tex_row(upper)} {_tex_row(tuple(rest or first for first, _, rest in parts))}"


def _tex_text(text: str) -> str:
    """Return text for LaTeX; what pdflatex has no letter for stands as its code point."""
    return "".join(
        c if c.isascii() or c in _LETTERS else f"[U+{ord(c):04X}]" if len(c) == 1 else c
        for c in (character.translate(_TEX) for character in one_line(text))
    )


def _parquet(tables: Tables) -> dict[str, bytes]:
    files = {}
    for name in tables.names:
        frame, buffer = getattr(tables, name), io.BytesIO()
        # text stays text where every value is missing
        text = dict.fromkeys(frame.select_dtypes("object"), "string")
        try:
            frame.astype(text).to_parquet(buffer, index=False)
        except ImportError as error:
            raise InvalidInputError(
                "parquet needs the package pyarrow, which is not installed: install it, or use csv"
            ) from error
        files[f"{name}.parquet"] = buffer.getvalue()
    return files


_LETTERS = "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝŒš\N{EM DASH}"
_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "±": r"$\pm$",
        "·": r"$\cdot$",
        NOTHING: "--",
        "<": "$<$",
        ">": "$>$",
        "▲": r"$\uparrow$",
        "▼": r"$\downarrow$",
        "†": r"$\dag$",
    }
)
_FORMATS: dict[str, Callable[[Tables], dict[str, bytes]]] = {
    "md": _markdown,
    "csv": lambda tables: {f"{name}.csv": to_csv(getattr(tables, name)) for name in tables.names},
    "latex": lambda tables: {**_latex(tables), "references.bib": to_bibtex(tables.study)},
    "parquet": _parquet,
    "every-eval-ever": to_records,
}
