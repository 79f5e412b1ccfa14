"""``plan --detect``: how many seeds a difference needs, and the hours they cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from rich.console import Console
from rich.table import Table

from benchmark.engines.machine import cuda_devices, default_workers, pick_device
from benchmark.exit_codes import DONE
from benchmark.statistics import paired, power
from benchmark.study.folder import CellKey, Study, load_study
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
    baseline: CellKey
    differences: list[float]
    family: int
    seconds: tuple[float, float]
    has: tuple[int, int]

    def hours(self, seeds: int) -> float:
        """Return the hours of the runs that both lack to have ``seeds`` seeds."""
        lacking = [max(0, seeds - done) for done in self.has]
        return sum(n * s for n, s in zip(lacking, self.seconds, strict=True)) / 3600


def detect(args: argparse.Namespace) -> int:
    """Print the seeds and hours that each comparison with the baseline needs.

    Raises:
        InvalidInputError: too few runs to know how far paired differences spread.
    """
    study = load_study(args.out)
    found = comparisons(study) if study else []
    if study is None or not found:
        raise InvalidInputError(
            f"--detect needs a pilot: {args.out} has no method with {paired.MIN_RUNS} seeds "
            "in common with the protocol's baseline. Run one first, the baseline among the "
            f"methods: python -m benchmark run --methods A,B --seeds 5 --out {args.out}"
        )
    devices = cuda_devices(pick_device(args.device))
    workers = args.jobs or default_workers(devices, study.protocol)
    show(Console(), args.detect, found, workers)
    return DONE


def comparisons(study: Study) -> list[Comparison]:
    """Return every method that shares at least three done seeds with the baseline of its place."""
    found: list[Comparison] = []
    for _, group in groupby(study.cells, key=lambda cell: cell.axes[:3]):
        cells = list(group)
        base = next((cell for cell in cells if cell.method == study.protocol.baseline), None)
        if base is None:
            continue
        theirs = _done(study, base)
        for cell in cells:
            ours = _done(study, cell)
            common = sorted(ours.keys() & theirs.keys())
            if cell == base or len(common) < paired.MIN_RUNS:
                continue
            found.append(
                Comparison(
                    method=cell,
                    baseline=base,
                    differences=[_score(ours[s]) - _score(theirs[s]) for s in common],
                    family=len(cells) - 1,
                    seconds=(_seconds(ours), _seconds(theirs)),
                    has=(len(ours), len(theirs)),
                )
            )
    return found


def show(console: Console, points: float, found: Sequence[Comparison], workers: int) -> None:
    """Print a line for each comparison, and how to read them."""
    title = f"Seeds that find {points:g} points of MAP@R (concatenated) with 80 % power at 5 %"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("Method", "Against", "Dataset"):
        table.add_column(column)
    for column in ("Pairs", "sd of differences", "Seeds", "One comparison", "Hours"):
        table.add_column(column, justify="right")
    for item in found:
        table.add_row(*_cells(item, points, workers))
    console.print(table)
    family = max(item.family for item in found)
    notes = [
        f"sd in points with its 95 % interval; in brackets the seeds at that interval's ends. "
        f"Seeds holds with Holm over {family} comparison(s), at worst; hours are of the runs "
        f"that are not there yet, of method and baseline, {workers} job(s) at once, without any "
        "search. Conditional on one search: repeated searches spread further.",
    ]
    if any(len(item.differences) < 6 for item in found):
        notes.append("With so few pairs the sd is little known: mind the brackets, or run more.")
    console.print(" ".join(notes), highlight=False)


def _cells(item: Comparison, points: float, workers: int) -> list[str]:
    differences = paired.t_interval(item.differences)
    assert differences.sd is not None  # three pairs at least
    pilot = len(item.differences)
    whole = power.needed(points / 100, differences.sd, pilot, item.family)
    alone = power.needed(points / 100, differences.sd, pilot)
    sd, low, high = (100 * value for value in whole.sd)
    hours = [item.hours(n) / workers if n else None for n in whole.seeds]
    place = (item.method.row, item.baseline.row, item.method.dataset)
    return [
        *place,
        str(pilot),
        f"{sd:.2f} ({low:.2f}–{high:.2f})",
        _range([str(n) if n else f"> {power.MOST}" for n in whole.seeds]),
        _range([str(n) if n else f"> {power.MOST}" for n in alone.seeds]),
        _range([_hours(h) for h in hours]),
    ]


def _range(texts: Sequence[str]) -> str:
    return f"{texts[0]} ({texts[1]}–{texts[2]})"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "?"
    return f"{hours:.2f}" if hours < 10 else f"{hours:.0f}"


def _done(study: Study, cell: CellKey) -> Runs:
    runs = study.runs(cell)
    return {r.seed: r for r in runs if value_of(r, *HEADLINE) is not None}


def _score(run: RunRecord) -> float:
    value = value_of(run, *HEADLINE)
    assert value is not None  # by _done
    return value


def _seconds(runs: Runs) -> float:
    return fmean(run.measured.get("seconds", 0.0) for run in runs.values())
