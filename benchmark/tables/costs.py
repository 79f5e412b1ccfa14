"""What each method cost: means over its runs, and what its search and all its runs took together.

Seconds, memory, energy and money are a machine's, so they stand apart from the tables that must
come out the same everywhere; compare them only where one machine and nothing else ran.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from statistics import fmean
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from benchmark.study.machines import BETWEEN, UNKNOWN, parted
from benchmark.study.records import COUNTS, RunRecord
from benchmark.study.scores import NOTHING
from benchmark.study.spending import NAMES, TO_HOURS, Price, Record, Spending, Spent
from benchmark.tables.formats import Fitted
from benchmark.tables.frames import Tables
from benchmark.tables.headlines import Headline
from benchmark.tables.results import CellResults
from protocols.names import one_line

TITLE = "Cost of one run over all folds; wall-clock seconds, beside whatever else ran"
MEASURED = ("train_s", "seconds", "cpu_s", "peak_memory_mb")
MAX_PRINTED = 60  # rows on a terminal; laying out a thousand takes seconds
TOTALS = ("job_h", "cpu_h", "machine_h", "gpu_h", "packages_wh", "gpu_wh", "money", "currency")
COLUMNS = ("dataset", "trunk", "recipe", "method", "n", *COUNTS, *MEASURED, "device", *TOTALS)
TOTALS_TITLE = "Cost of a row: its search and all its runs"
SHARED = (
    "Every moment of a machine is split evenly among the jobs of this study that ran in it; so is "
    "what its processor packages and GPUs counted meanwhile, whatever else ran there. A dash: not "
    "measured on that machine, or not in an older record"
)


# What a terminal shows, and above which column; a run's images stand beside the protocol's.
_SHOWN = {
    "parameters_trained": "Trained",
    "parameters_deployed": "Deployed",
    "images_trained": "Images",
    "images_protocol": "By protocol",
    "images_embedded": "Embedded",
    "seconds": "Seconds",
    "cpu_s": "CPU s",
    "peak_memory_mb": "MB",
}
MEMORY = "peak_memory_mb"
_TOTALS_SHOWN = {
    "job_h": "Job h",
    "cpu_h": "CPU h",
    "machine_h": "Machine h",
    "gpu_h": "GPU h",
    "packages_wh": "Packages Wh",
    "gpu_wh": "GPU Wh",
}
OTHER = "≠"  # beside the images of a run that are not as many as the protocol's


def other_images(trained: float | None, protocol: float | None) -> bool:
    """Return whether runs trained on more or fewer images than the protocol's batches hold."""
    known = trained is not None and protocol is not None
    return known and trained == trained and protocol == protocol and trained != protocol


def records_of(frames: Tables) -> list[Record]:
    """Return every trial and run of a study, those of further searches too."""
    study, found = frames.study, list[Record]()
    for cell in frames.cells:
        found += [*cell.trials, *cell.runs]
    for key in study.repeats:
        found += [*study.trials(key), *study.runs(key)]
    return found


def totals(spent: Spent, price: Price | None) -> dict[str, Any]:
    """Return the columns of what a row, or a study, cost in all; None where it is not told.

    Args:
        spent: by its records.
        price: of an hour of the machine.
    """
    values = [getattr(spent, name) for name in NAMES]
    found = dict(zip(TOTALS, (None if v is None else v * TO_HOURS for v in values), strict=False))
    hours = found["machine_h"]
    return {
        **found,
        "money": None if price is None or hours is None else hours * price[0],
        "currency": price[1] if price else None,
    }


def frame(
    cells: Iterable[CellResults], spending: Spending, price: Price | None = None
) -> pd.DataFrame:
    """Return one row per cell with finished runs: means over them, and what all of it cost.

    Counts and seconds are those of one run, its folds together; parameters are one network's.
    Images trained went forward and backward, images embedded forward only; the protocol's are
    those of its own batches in as many steps. Peak memory is a GPU's; NaN on a CPU, where a record
    has what its worker had held up to then, earlier jobs included. The last columns are of search
    and runs together, failed ones too; see :mod:`benchmark.study.spending`.
    """
    rows = []
    for cell in sorted(cells, key=lambda c: (*c.place.values(), c.key.row)):
        done = [run for run in cell.runs if run.status == "done"]
        if done:
            start = (*cell.columns.values(), len(done))
            means = (mean_of(done, name) for name in (*COUNTS, *MEASURED))
            whole = totals(spending.of([*cell.trials, *cell.runs]), price).values()
            rows.append((*start, *means, _devices(done), *whole))
    made = pd.DataFrame(rows, columns=list(COLUMNS))
    return made.astype(dict.fromkeys(TOTALS[:-1], "float64"))


def render(costs: pd.DataFrame, whole: str) -> list[RenderableType]:
    """Return the costs as tables for a terminal, the first rows where there are many.

    Args:
        costs: of :func:`frame`.
        whole: what the study cost, in words.
    """
    rows = costs.head(MAX_PRINTED).to_dict("records")
    more = f"the first {MAX_PRINTED} of {len(costs)} cells; all are in the file"
    caption = more if len(costs) > MAX_PRINTED else ""
    shown = {k: v for k, v in _SHOWN.items() if k != MEMORY or costs[k].notna().any()}
    runs = [(str(row["method"]), *(_cell(row, name) for name in shown)) for row in rows]
    header = shown_totals(costs)
    sums = [(str(row["method"]), *(small(row[name]) for name in header)) for row in rows]
    return [
        Fitted(Headline(TITLE, ("Method", *shown.values()), runs, caption)),
        Fitted(Headline(TOTALS_TITLE, ("Method", *header.values()), sums, "")),
        Text(one_line(f"{whole}. {SHARED}."), style="dim"),  # wider than the narrow table above it
    ]


def shown_totals(costs: pd.DataFrame) -> dict[str, str]:
    """Return the columns of totals for people with their headings: those that say something."""
    told = {k: v for k, v in _TOTALS_SHOWN.items() if (costs[k].fillna(0) > 0).any()}
    money = costs["currency"].dropna()
    return told | ({"money": str(money.iloc[0])} if len(money) else {})


def in_words(spent: Spent, price: Price | None) -> str:
    """Return what a study cost as a line: what is not told is left out."""
    found = totals(spent, price)
    parts = [
        f"{small(found[name])} {words}"
        for name, words in (
            ("job_h", "job hours"),
            ("machine_h", "machine hours"),
            ("cpu_h", "CPU hours"),
            ("gpu_h", "GPU hours"),
            ("packages_wh", "Wh of processor packages"),
            ("gpu_wh", "Wh of GPUs"),
        )
        if found[name]
    ]
    said = f"The whole study: {', '.join(parts) or 'nothing is told'}"
    if price and found["money"] is not None:
        rate = f"{price[0]:g} {price[1]}"
        return f"{said}; {small(found['money'])} {price[1]} at {rate} an hour of a machine"
    return f"{said}; no price, because older records do not say when they ran" if price else said


def small(value: float | None) -> str:
    """Return hours, Wh or money with two digits, four below 1; a dash where it is not told."""
    if value is None or value != value:
        return NOTHING
    return f"{value:,.2f}" if value >= 1 else f"{value:.4f}"


def _cell(row: dict[Hashable, Any], name: str) -> str:
    value = row[name]
    if value != value:
        return NOTHING
    differs = name == "images_trained" and other_images(value, row["images_protocol"])
    return f"{value:,.0f}{f' {OTHER}' if differs else ''}"


def _devices(runs: Sequence[RunRecord]) -> str:
    """Return the devices that the runs met, in order."""
    met = [name for run in runs for name in parted(run.measured.get("environment", {}), "device")]
    return BETWEEN.join(dict.fromkeys(met))


def mean_of(runs: Sequence[RunRecord], name: str) -> float:
    """Return the mean over runs of a count or a measured value, NaN where none is a method's own.

    Of the memory of a CPU's worker nothing is: it holds what earlier jobs left.
    """
    if name == MEMORY:
        runs = [run for run in runs if _on_gpu(run)]
    values = [{**run.counts, **run.measured}.get(name) for run in runs]
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else float("nan")


def _on_gpu(run: RunRecord) -> bool:
    devices = parted(run.measured.get("environment", {}), "device")
    return not any(device.startswith(("cpu", UNKNOWN)) for device in devices)
