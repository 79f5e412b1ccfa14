"""Which machines a study's numbers were made on: one kind of device, and where others meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmark.study import records
from benchmark.study.folder import Study
from benchmark.study.records import DamagedRecordError, JobRecord

KIND = "device_kind"  # cpu or cuda; records of earlier versions do not say
UNKNOWN = "unknown"
BETWEEN = " + "

Environment = dict[str, Any]

# What can move a number between two records of the same code and data.
SAID = {
    KIND: "kind",
    "device": "device",
    "cpu_capability": "CPU instructions",
    "mkl_cbwr": "MKL_CBWR",
    "matmul_precision": "precision of products",
    "conv_precision": "precision of convolutions",
    "torch": "torch",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
}
_SHOWN = 3  # rows named beside a value; the rest are counted


def merged(jobs: Sequence[JobRecord]) -> Environment:
    """Return what ``jobs`` were made with; a name whose values differ has them all, in order.

    ``NVIDIA A100 + NVIDIA H100``: nothing of a run whose folds met two machines is left out.
    """
    # A job whose worker was lost says nothing but the commit.
    found = [env for job in jobs if "device" in (env := job.measured.get("environment", {}))]
    names = dict.fromkeys(name for environment in found for name in environment)
    together: Environment = {}
    for name in names:
        values = [environment.get(name, UNKNOWN) for environment in found]
        alike = all(value == values[0] for value in values)
        together[name] = values[0] if alike else BETWEEN.join(dict.fromkeys(map(str, values)))
    return together


def parted(environment: Environment, name: str) -> list[str]:
    """Return the values of ``name`` in a merged environment, as words."""
    return str(environment.get(name, UNKNOWN)).split(BETWEEN)


def mixed(environment: Environment) -> list[str]:
    """Return which names of a merged environment hold more than one value."""
    return [name for name in environment if len(parted(environment, name)) > 1]


def unlike(made: Iterable[tuple[str, Environment]]) -> str:
    """Return where rows of one table met unlike machines, in words; "" where all are alike.

    What a record does not say, because it is of an earlier version, counts as ``unknown``.

    Args:
        made: for each run and trial its row's name, and what it was made with.
    """
    met: dict[str, dict[str, dict[str, None]]] = {name: {} for name in SAID}
    for row, environment in made:
        for name in SAID if environment else ():
            for value in parted(environment, name):
                met[name].setdefault(value, {})[row] = None
    parts = [
        f"{SAID[name]} " + ", ".join(f"{v} ({_few(list(rows))})" for v, rows in values.items())
        for name, values in met.items()
        if len(values) > 1
    ]
    return f"made on unlike machines: {'; '.join(parts)}" if parts else ""


def _few(rows: Sequence[str]) -> str:
    more = len(rows) - _SHOWN
    return ", ".join(rows[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def device_kind(study: Study) -> str | None:
    """Return the kind of device that the study's jobs ran on, None where no record says.

    The first record that says it is enough: a study is never continued on another kind of device.
    """
    for cell in study.all_cells:
        for path in sorted(study.folder(cell).glob("*.fold-*.json")):
            try:
                record = records.load(path)
            except (DamagedRecordError, OSError):
                continue  # skipped here; what reads it to use it sets it aside
            kind = getattr(record, "measured", {}).get("environment", {}).get(KIND)
            if kind is not None:
                return str(kind)
    return None
