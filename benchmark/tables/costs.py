"""What each method cost: parameters, images, seconds and memory, means over its runs.

Seconds and memory are a machine's, so they stand apart from the tables that must come out the
same everywhere; compare them only where one machine and nothing else ran.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from benchmark.study.machines import BETWEEN, parted
from benchmark.study.records import COUNTS, RunRecord
from benchmark.study.scores import NOTHING
from benchmark.tables.formats import Fitted
from benchmark.tables.headlines import Headline
from benchmark.tables.results import CellResults

TITLE = "Cost of one run, all folds; seconds are this machine's"
MEASURED = ("train_s", "seconds", "cpu_s", "peak_memory_mb")
MAX_PRINTED = 60  # rows on a terminal; laying out a thousand takes seconds
COLUMNS = ("dataset", "trunk", "recipe", "method", "n", *COUNTS, *MEASURED, "device")


# What a terminal shows, and above which column; a run's images stand beside the protocol's.
_SHOWN = {
    "parameters_trained": "Trained",
    "parameters_deployed": "Deployed",
    "images_trained": "Images",
    "images_protocol": "Protocol's",
    "images_embedded": "Embedded",
    "seconds": "Seconds",
    "cpu_s": "CPU s",
    "peak_memory_mb": "MB",
}
OTHER = "≠"  # beside the images of a run that are not as many as the protocol's


def other_images(trained: float | None, protocol: float | None) -> bool:
    """Return whether runs trained on more or fewer images than the protocol's batches hold."""
    known = trained is not None and protocol is not None
    return known and trained == trained and protocol == protocol and trained != protocol


def frame(cells: Iterable[CellResults]) -> pd.DataFrame:
    """Return one row per cell with finished runs: means over them.

    Counts and seconds are those of one run, its folds together; parameters are one network's.
    Images trained went forward and backward, images embedded forward only; the protocol's are
    those of its own batches in as many steps. Peak memory is the largest that a worker had held up
    to then.
    """
    rows = []
    for cell in sorted(cells, key=lambda c: (*c.place.values(), c.key.row)):
        done = [run for run in cell.runs if run.status == "done"]
        if done:
            start = (*cell.columns.values(), len(done))
            means = (_mean(done, name) for name in (*COUNTS, *MEASURED))
            rows.append((*start, *means, _devices(done)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def render(costs: pd.DataFrame) -> Fitted:
    """Return the costs as a table for a terminal, the first of them where there are many."""
    rows = [
        (str(row["method"]), *(_cell(row, name) for name in _SHOWN))
        for row in costs.head(MAX_PRINTED).to_dict("records")
    ]
    more = f"the first {MAX_PRINTED} of {len(costs)} cells; all are in the file"
    caption = more if len(costs) > MAX_PRINTED else ""
    return Fitted(Headline(TITLE, ("Method", *_SHOWN.values()), rows, caption))


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


def _mean(runs: Sequence[RunRecord], name: str) -> float:
    values = [{**run.counts, **run.measured}.get(name) for run in runs]
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else float("nan")
