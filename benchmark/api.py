"""The benchmark in Python and notebooks: run a study, open it, look at it, use its models.

    from benchmark import api

    study = api.run(methods=["triplet", "ms"], protocol="toy", out="runs")
    study.summary  # a DataFrame, as tables/summary.csv
    study.figure("forest")
    study.model("ms").embed(["a.png", "b.png"])

Processes do the work of ``run``. A script that calls it does so below
``if __name__ == "__main__":``, for each process reads the script again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from benchmark.cli import carry_out, make_parser
from benchmark.exit_codes import INTERRUPTED, TIME_UP
from protocols.errors import InvalidInputError, StoreError, unknown_name

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from benchmark.models.model import FoldModel
    from benchmark.study.folder import Study as Records
    from benchmark.tables.frames import Tables

Place = str | os.PathLike[str]
Value = str | int | float | bool | Path | Iterable[str | Path] | None

REPEATED = ("plugin", "set")  # typed once for each value; other lists are joined by commas
FIGURES = ("forest",)


@dataclass(frozen=True)
class Figure:
    """A chart; a notebook shows it."""

    svg: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.svg[self.svg.index("<svg") :]

    def save(self, path: Place) -> None:
        """Write it as an SVG file."""
        Path(path).write_text(self.svg, encoding="utf-8")


@dataclass(frozen=True)
class Model:
    """A kept model of a study: all folds of one run joined, or one fold."""

    name: str
    kept: FoldModel = field(repr=False)

    def embed(self, images: Place | Sequence[Place]) -> NDArray[np.float32]:
        """Return (N, D) embeddings of image files, folders or CSV lists, in their order.

        Raises:
            DataError: no place at all or one that does not exist, or an image that cannot be read.
        """
        from benchmark.models.images import gather
        from benchmark.models.model import embed_items

        # Nobody asks for the classes here, so nobody needs to say which folders they are.
        return embed_items(self.kept, gather(_paths(images), class_level=1, labels="text"))


class Study:
    """A study's output folder as it was when opened; open it again to see what came since."""

    def __init__(self, records: Records) -> None:
        self._records = records

    @property
    def out(self) -> Path:
        """Return the output folder."""
        return self._records.out

    @property
    def summary(self) -> pd.DataFrame:
        """Return one row per cell, embedding and metric; fractions."""
        return self._tables.summary.copy()

    @property
    def pairs(self) -> pd.DataFrame:
        """Return one row per pair of methods, embedding and metric; fractions."""
        return self._tables.pairs.copy()

    @property
    def runs(self) -> pd.DataFrame:
        """Return one row per cell and seed; fractions."""
        return self._tables.runs.copy()

    @property
    def trials(self) -> pd.DataFrame:
        """Return one row per cell and trial of its search; a failed trial has no value."""
        return self._tables.trials.copy()

    @property
    def across(self) -> pd.DataFrame:
        """Return one row per method, embedding and metric over several datasets, empty for one."""
        return self._tables.across.copy()

    @property
    def searches(self) -> pd.DataFrame:
        """Return the runs of every search of cells with several (``search_repeats``), or none."""
        return self._tables.searches.copy()

    @property
    def variance(self) -> pd.DataFrame:
        """Return how much of those cells' spread is the searches' and how much the seeds'."""
        return self._tables.variance.copy()

    @property
    def references(self) -> pd.DataFrame:
        """Return one row per reference row and metric, empty without any."""
        return self._tables.references.copy()

    @property
    def costs(self) -> pd.DataFrame:
        """Return what a run of each cell cost, and its search and all its runs together."""
        from benchmark.study.spending import Spending
        from benchmark.tables import costs

        tables = self._tables
        return costs.frame(tables.cells, Spending(costs.records_of(tables)))

    def figure(self, name: str = "forest", section: int = 1) -> Figure:
        """Return a chart of one section of the report, counted from 1.

        Args:
            name: ``forest``, means of MAP@R with their intervals.
            section: which dataset, trunk and recipe, in the order of the report.

        Raises:
            UnknownNameError: no such chart.
            InvalidInputError: no such section.
        """
        from benchmark.report import image_files
        from benchmark.report.sections import sections

        if name not in FIGURES:
            raise unknown_name("figure", name, FIGURES)
        found = list(sections(self._tables))
        if not 1 <= section <= len(found):
            raise InvalidInputError(f"section {section}: this study has sections 1 to {len(found)}")
        return Figure(image_files.forest(found[section - 1]))

    def model(self, name: str, plugins: Place | Sequence[Place] = ()) -> Model:
        """Return a kept model: ``ms``, ``ms/seed-1`` or ``ms/seed-1/fold-0``.

        Args:
            name: a method's name alone means its run that validated best.
            plugins: the file or files that hold the method, where it is not one of the
                benchmark's.

        Raises:
            UnknownNameError: no such cell.
            StoreError: its weights were not kept, or are damaged.
        """
        from benchmark.commands.models import remaking_command
        from benchmark.models.address import find
        from benchmark.models.export import kept_model
        from protocols.discovery import Registry

        address = find(self._records, name)
        files = _paths(plugins)
        registry = Registry(tuple(files))
        remake = remaking_command(self._records, address, files)
        _, kept = kept_model(self._records, address, registry, remake)
        return Model(address.text, kept)

    def _repr_html_(self) -> str:
        shown: str = self.summary.to_html(index=False, float_format="{:.4f}".format)
        return shown

    @cached_property
    def _tables(self) -> Tables:
        from benchmark.tables.frames import make_tables

        return make_tables(self._records)


@overload
def run(file: Place | None = None, /, *, dry_run: Literal[True], **options: Value) -> None: ...


@overload
def run(
    file: Place | None = None, /, *, dry_run: Literal[False] | None = None, **options: Value
) -> Study: ...


def run(file: Place | None = None, /, **options: Value) -> Study | None:
    """Run a study, or go on with it, and return it opened; None after ``dry_run=True``.

    A dry run prints the plan and makes nothing. With ``max_hours`` the study may be unfinished when
    it is returned; the same call goes on with it.

    Args:
        file: a study file, see ``new-study``.
        options: the words of ``python -m benchmark run --help`` with ``_`` for ``-``. A list
            stands for names joined by commas, or for an option typed several times; ``True`` for
            an option without a value; ``False`` and None leave the option out.

    Raises:
        BenchmarkError: what the command line would refuse with exit code 2 or for the machine.
        StoreError: the hours of ``max_hours`` were up before anything was recorded.
        KeyboardInterrupt: the study was interrupted; the same call goes on.
    """
    from benchmark.study.folder import load_study

    args = make_parser().options(["run", *_typed(file, options)])
    code = carry_out(args)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if args.dry_run:
        return None
    if code == TIME_UP and load_study(args.out) is None:
        raise StoreError(
            f"max_hours={args.max_hours:g}: the time was up before anything was recorded in "
            f"{args.out}, so there is no study to open. Call it again with more hours"
        )
    return open(args.out)


def open(out: Place = "runs") -> Study:
    """Return the study in folder ``out``; raise StoreError if there is none."""
    from benchmark.commands.outputs import open_study

    return Study(open_study(Path(out)))


def _paths(places: Place | Sequence[Place]) -> list[Path]:
    """Return one place, or several, as paths."""
    if isinstance(places, str | os.PathLike):
        return [Path(places)]
    return [Path(place) for place in places]


def _typed(file: Place | None, options: dict[str, Value]) -> list[str]:
    """Return the options as they are typed."""
    typed = [] if file is None else [os.fspath(file)]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value is False:
            continue
        if value is True:
            typed.append(option)
        elif isinstance(value, str | int | float | Path):
            typed.append(f"{option}={value}")
        elif name in REPEATED:
            typed += [f"{option}={one}" for one in value]
        else:
            typed.append(f"{option}={','.join(map(str, value))}")
    return typed
