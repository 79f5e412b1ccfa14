"""``plan --detect``: how many seeds a difference needs, and the hours they cost.

The verdicts that the tables would give are simulated from a pilot: finished runs of this folder.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from rich.console import Console
from rich.table import Table

from benchmark.engines.machine import cuda_devices, default_workers, pick_device
from benchmark.exit_codes import DONE
from benchmark.statistics import paired, power
from benchmark.study.folder import CellKey, Study, competes, load_study
from benchmark.study.records import RunRecord
from benchmark.study.scores import HEADLINE
from benchmark.tables.results import value_of
from protocols.errors import InvalidInputError

Runs = dict[int, RunRecord]  # done runs by seed


@dataclass(frozen=True)
class Comparison:
    """A method, its paired differences to the baseline in fractions, and the seconds of a seed.

    ``seconds`` are those of one more seed of the method and of the baseline, one job after the
    other; ``has`` how many seeds each of the two has run.
    """

    method: CellKey
    differences: list[float]
    seconds: tuple[float, float]
    has: tuple[int, int]

    def hours(self, seeds: int) -> float:
        """Return the hours of the runs that both lack to have ``seeds`` seeds."""
        lacking = [max(0, seeds - done) for done in self.has]
        return sum(n * s for n, s in zip(lacking, self.seconds, strict=True)) / 3600


@dataclass(frozen=True)
class Pilot:
    """The comparisons of one dataset, trunk and recipe, and what their runs say of spreads."""

    baseline: CellKey
    family: int
    comparisons: list[Comparison]
    spreads: power.Pilot


def detect(args: argparse.Namespace) -> int:
    """Print the seeds and hours that each comparison with the baseline needs.

    Raises:
        InvalidInputError: too few runs to know how far paired differences spread.
    """
    study = load_study(args.out)
    found = pilots(study) if study else []
    if study is None or not found:
        raise InvalidInputError(
            f"--detect needs a pilot: {args.out} has no method with {paired.MIN_RUNS} seeds "
            "in common with the protocol's baseline. Run one first, the baseline among the "
            f"methods: python -m benchmark run --methods A,B --seeds 5 "
            f"--out {shlex.quote(str(args.out))}"
        )
    devices = cuda_devices(pick_device(args.device))
    workers = args.jobs or default_workers(devices, study.protocol)
    show(Console(), args.detect, found, study.protocol.seeds, workers)
    return DONE


def pilots(study: Study) -> list[Pilot]:
    """Return every place where methods share at least three done seeds with the baseline.

    The family is every method but the reference against the baseline, run or not.
    """
    known: list[Pilot] = []
    protocol = study.protocol
    for _, group in groupby(study.cells, key=lambda cell: cell.axes[:3]):
        cells = list(group)
        base = next((cell for cell in cells if cell.method == protocol.baseline), None)
        if base is None:
            continue
        others = [c for c in cells if c != base and competes(c, protocol)]
        theirs = _done(study, base)
        runs = {cell: _done(study, cell) for cell in others}
        runs = {c: own for c, own in runs.items() if len(own.keys() & theirs) >= paired.MIN_RUNS}
        if runs:
            scores = {seed: _score(run) for seed, run in theirs.items()}
            ours = [{seed: _score(run) for seed, run in own.items()} for own in runs.values()]
            spreads = power.pilot(ours, scores, len(others))
            compared = [_comparison(cell, own, theirs) for cell, own in runs.items()]
            known.append(Pilot(base, len(others), compared, spreads))
    return known


def show(
    console: Console, points: float, pilots: Sequence[Pilot], seeds: int, workers: int
) -> None:
    """Print a table for each place, a line for each comparison, and how to read them."""
    inside = points / 100 < paired.ROPE
    right = "equivalent" if inside else "better"
    for pilot in pilots:
        place = " · ".join(pilot.baseline.axes[:3])
        table = Table(title=f"{place}, against {pilot.baseline.row}", title_justify="left")
        table.add_column("Method", overflow="fold")
        for column in ("Pairs", "sd, points", "Seeds", f"At {seeds}", "Hours"):
            table.add_column(column, justify="right")
        needed = power.seeds_for(pilot.spreads, points / 100)
        now = power.chances(pilot.spreads, points / 100, max(seeds, paired.MIN_RUNS)).tolist()
        for item, count, chance in zip(pilot.comparisons, needed, now, strict=True):
            table.add_row(*_cells(item, count, chance, workers))
        console.print(table)
    if inside:
        console.print(
            f"{points:g} points lie inside the margin of {100 * paired.ROPE:g}: the right verdict "
            'is "equivalent", never "better".',
            highlight=False,
        )
    families = " or ".join(str(n) for n in sorted({pilot.family for pilot in pilots}))
    notes = [
        f"Seeds: for an 80 % chance of the verdict {right!r} where the true difference is "
        f"{points:g} point{'s' * (points != 1)} of MAP@R (concatenated) and all other methods "
        f"equal the baseline; simulated with Holm over {families} "
        f"comparison{'s' * (families != '1')}, the mark for unequal spread, and "
        f"true spreads drawn from what the pilot leaves open. At {seeds}: the chance with the "
        "seeds of this study. sd: of the paired differences, with its 95 % interval. Hours: of "
        f"the runs that method and baseline lack, {workers} at once, as long as the pilot's took "
        "by the clock where they ran, no search. All "
        "conditional on one search: repeated searches spread further.",
    ]
    if any(len(item.differences) < 6 for pilot in pilots for item in pilot.comparisons):
        notes.append("So few pairs leave the sd open, which is why so many seeds are asked for.")
    console.print(" ".join(notes), highlight=False)


def _comparison(cell: CellKey, ours: Runs, theirs: Runs) -> Comparison:
    common = sorted(ours.keys() & theirs.keys())
    return Comparison(
        method=cell,
        differences=[_score(ours[s]) - _score(theirs[s]) for s in common],
        seconds=(_seconds(ours), _seconds(theirs)),
        has=(len(ours), len(theirs)),
    )


def _cells(item: Comparison, needed: int | None, chance: float, workers: int) -> list[str]:
    sd, low, high = (100 * value for value in power.spread(item.differences))
    return [
        item.method.row,
        str(len(item.differences)),
        f"{sd:.2f} ({low:.2f}–{high:.2f})",
        str(needed) if needed else f"> {power.MOST}",
        f"{100 * chance:.0f} %",
        _hours(item.hours(needed) / workers if needed else None),
    ]


def _hours(hours: float | None) -> str:
    if hours is None:
        return "?"
    return f"{hours:.2f}" if hours < 10 else f"{hours:.0f}"


def _done(study: Study, cell: CellKey) -> Runs:
    runs = study.runs(cell)
    return {r.seed: r for r in runs if value_of(r, *HEADLINE) is not None}


def _score(run: RunRecord) -> float:
    value = value_of(run, *HEADLINE)
    assert value is not None  # _done keeps only runs that have it
    return value


def _seconds(runs: Runs) -> float:
    return fmean(run.measured.get("seconds", 0.0) for run in runs.values())
