"""The commands that make void rows anew, as few studies as their grids allow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell
from benchmark.submissions.took import seconds_of

NO_WEIGHTS = "none"


@dataclass(frozen=True)
class Remake:
    """One study to run.

    Attributes:
        words: of ``run``, without the program.
        rows: how many void rows it makes anew.
        seconds: what their trainings took before.
        weights: identity of the trunk's weights file, empty where it had none; where the file
            lies only the user knows.
    """

    words: tuple[str, ...]
    rows: int
    seconds: float
    weights: str


def remakes(rows: Iterable[SubmittedRow], out: Path) -> list[Remake]:
    """Return the studies that make ``rows`` anew, one folder below ``out`` for each protocol.

    Methods of one place in the grid share a study, and so do datasets with the same methods. The
    reference row comes with every study and is not named.
    """
    places: dict[tuple[str, ...], list[tuple[SubmittedRow, Cell]]] = defaultdict(list)
    for row in rows:
        if cell := row.cell:
            trunk = cell.made_of.trunk.partition("+")[0]
            weights = cell.made_of.weights
            places[cell.protocol, trunk, weights, cell.recipe, cell.dataset].append((row, cell))
    merged: dict[tuple[str, ...], list[tuple[SubmittedRow, Cell]]] = defaultdict(list)
    datasets: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (*place, dataset), held in sorted(places.items()):
        methods = ",".join(sorted({c.method for _, c in held if not c.is_reference}))
        merged[*place, methods] += held
        datasets[*place, methods].append(dataset)
    return [_remake(key, datasets[key], held, out) for key, held in merged.items()]


def _remake(
    key: tuple[str, ...],
    datasets: list[str],
    held: list[tuple[SubmittedRow, Cell]],
    out: Path,
) -> Remake:
    protocol, trunk, weights, recipe, methods = key
    # A study of the reference row alone still needs a method: its own name does.
    named = methods or held[0][1].method
    what = ("--methods", named, "--datasets", ",".join(datasets), "--trunks", trunk)
    words = (
        "run",
        "--protocol",
        protocol,
        *what,
        "--recipes",
        recipe,
        "--out",
        str(out / protocol),
    )
    seconds = sum(seconds_of(row) for row, _ in held)
    return Remake(words, len(held), seconds, "" if weights == NO_WEIGHTS else weights)
