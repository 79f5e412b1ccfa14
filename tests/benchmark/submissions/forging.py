"""Ways to forge a row of results/ with every checksum and id made right again."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmark.submissions import values
from protocols.metrics import METRICS
from tests.benchmark import rows

Body = dict[str, Any]
Arrays = dict[str, Any]


def edit_run(row: Path, change: Callable[[Body], object], seed: int = 0):
    """Change a run's file."""
    rows.edit(row / f"seed-{seed}.json", change)


def edit_cell(row: Path, change: Callable[[Body], object]):
    """Change a row's cell, and whatever follows from its identity."""
    rows.reidentify(row, change)


def arrays_of(row: Path, seed: int = 0) -> Arrays:
    """Return copies of what a run found for every query."""
    with np.load(row / f"values-{seed}.npz") as file:
        return {name: file[name].copy() for name in file.files}


def put_values(row: Path, content: bytes, seed: int = 0):
    """Write a file of values, and its checksum into the run."""
    (row / f"values-{seed}.npz").write_bytes(content)
    sha = hashlib.sha256(content).hexdigest()
    edit_run(row, lambda body: body.update(values_sha256=sha), seed)


def pack(arrays: Arrays) -> bytes:
    """Return any arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def edit_values(row: Path, change: Callable[[Arrays], object], seed: int = 0):
    """Change what a run found for every query, and the run's numbers as they follow from it."""
    arrays = arrays_of(row, seed)
    change(arrays)
    put_values(row, values.pack(arrays), seed)
    edit_run(row, lambda body: follow(body, arrays), seed)


def follow(body: Body, arrays: Arrays):
    """Make a run's means, recalls and counts follow from its queries' values."""
    counted = ~np.isnan(arrays["concatenated_map_at_r"])
    body["excluded"] = int((~counted).sum())
    _, code, count = np.unique(arrays["labels"], return_inverse=True, return_counts=True)
    n = np.maximum(count[code] - 1, 1)
    for metric in METRICS:
        joined = arrays[f"concatenated_{metric}"].astype(float)
        apart = arrays[f"separated_{metric}"].astype(float)
        if metric == "r_precision":  # the fractions that float32 has rounded
            joined, apart = np.rint(joined * n) / n, np.rint(apart * n) / n
        body["concatenated"][metric] = float(joined[counted].mean())
        for fold, own in zip(body["folds"], apart, strict=True):
            fold[metric] = float(own[counted].mean())
        body["separated"][metric] = fmean(fold[metric] for fold in body["folds"])
    first = arrays["concatenated_first_hit"][counted]
    for name in [n for n in body["concatenated"] if n.startswith("recall_at_")]:
        k = int(name.removeprefix("recall_at_"))
        body["concatenated"][name] = float(((first > 0) & (first <= k)).mean())
    ten = arrays["concatenated_map_at_10"].astype(float)
    body["concatenated"]["map_at_10"] = float(ten[counted].mean())


def take_runs(row: Path, other: Path, seeds: dict[int, int], into: Path | None = None):
    """Hand another row's runs in as this row's: ``seeds`` maps this row's to the other's.

    ``into`` is the folder of a rerun of this row, None for the row itself.
    """
    cell = json.loads((row / "cell.json").read_text())
    for seed, theirs in seeds.items():
        taken = json.loads((other / f"seed-{theirs}.json").read_text())
        run_id = rows.digest([cell["id"], "run", seed, cell["chosen"]["settings"]], 16)
        names = {"cell": cell["id"], "id": run_id, "seed": seed}
        taken |= {**names, "settings": cell["chosen"]["settings"]}
        content = (other / f"values-{theirs}.npz").read_bytes()
        ((into or row) / f"seed-{seed}.json").write_bytes(rows.schema.pack(taken))
        ((into or row) / f"values-{seed}.npz").write_bytes(content)


def slower(body: Body):
    """Make a run's times those of another machine."""
    body.update(seconds=body["seconds"] + 1, train_s=body["train_s"] + 0.9)


def challenge(row: Path, date: str, who: str = "B. Other", seeds: tuple[int, ...] = (0, 1)) -> Path:
    """Lay an honest rerun of ``seeds`` beside the claim: the same bits, other times."""
    folder = row / f"challenge-{date}"
    folder.mkdir()
    form = f'who = {json.dumps(who, ensure_ascii=False)}\nhardware = "another"\nnote = ""\n'
    folder.with_suffix(".toml").write_text(form, encoding="utf-8")
    for seed in seeds:
        for name in (f"seed-{seed}.json", f"values-{seed}.npz"):
            (folder / name).write_bytes((row / name).read_bytes())
        edit_run(folder, slower, seed)
    return folder
