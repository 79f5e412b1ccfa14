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
from typing import TYPE_CHECKING

from benchmark.cli import carry_out, make_parser
from benchmark.exit_codes import INTERRUPTED
from protocols.errors import InvalidInputError, unknown_name

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
    kept: FoldModel

    def embed(self, images: Place | Sequence[Place]) -> NDArray[np.float32]:
        """Return (N, D) embeddings of image files, folders or CSV lists, in their order.

        Raises:
            DataError: a place that does not exist, or an image that cannot be read.
        """
        from benchmark.models.images import gather
        from benchmark.models.model import embed_items

        places = [images] if isinstance(images, str | os.PathLike) else images
        # Nobody asks for the classes here, so nobody needs to say which folders they are.
        return embed_items(self.kept, gather([Path(place) for place in places], class_level=1))


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
        """Return one row per cell and trial of its search."""
        return self._tables.trials.copy()

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

    def model(self, name: str, plugins: Sequence[Place] = ()) -> Model:
        """Return a kept model: ``ms``, ``ms/seed-1`` or ``ms/seed-1/fold-0``.

        Args:
            name: a method's name alone means its run that validated best.
            plugins: files that hold the method, where it is not one of the benchmark's.

        Raises:
            UnknownNameError: no such cell.
            StoreError: its weights were not kept, or are damaged.
        """
        from benchmark.commands.models import remaking_command
        from benchmark.models.address import find
        from benchmark.models.export import kept_model
        from protocols.discovery import Registry

        address = find(self._records, name)
        registry = Registry(tuple(Path(path) for path in plugins))
        remake = remaking_command(self._records, address)
        _, kept = kept_model(self._records, address, registry, remake)
        return Model(address.text, kept)

    def _repr_html_(self) -> str:
        shown: str = self.summary.to_html(index=False, float_format="{:.4f}".format)
        return shown

    @cached_property
    def _tables(self) -> Tables:
        from benchmark.tables.frames import make_tables

        return make_tables(self._records)


def run(file: Place | None = None, /, **options: Value) -> Study:
    """Run a study, or go on with it, and return it opened.

    Args:
        file: a study file, see ``new-study``.
        options: the words of ``python -m benchmark run --help`` with ``_`` for ``-``. A list
            stands for names joined by commas, or for an option typed several times; ``True`` for
            an option without a value; ``False`` and None leave the option out.

    Raises:
        BenchmarkError: what the command line would refuse with exit code 2 or for the machine.
        KeyboardInterrupt: the study was interrupted; the same call goes on.
    """
    args = make_parser().options(["run", *_typed(file, options)])
    if carry_out(args) == INTERRUPTED:
        raise KeyboardInterrupt
    return open(args.out)


def open(out: Place = "runs") -> Study:
    """Return the study in folder ``out``; raise StoreError if there is none."""
    from benchmark.commands.outputs import open_study

    return Study(open_study(Path(out)))


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
