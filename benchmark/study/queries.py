"""What a run found for every single test query: a file beside the records, named by them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.study.records import RunRecord

Arrays = dict[str, NDArray[Any]]


def read_queries(out: Path, run: RunRecord, names: Sequence[str]) -> Arrays | str:
    """Return the named arrays of a run's per-query file, or in one line why there are none.

    A record may come from anywhere: a file outside the folder ``queries`` is not opened, and one
    whose content is not what the record's checksum says is not used.

    Args:
        out: the output folder.
        run: the record that names the file and its checksum.
        names: what to read: ``index``, ``labels``, ``query``, ``neighbours`` or
            ``EMBEDDING_METRIC``.
    """
    whose = f"the per-query results of seed {run.seed}"
    file = run.queries or {}
    path = (out / file.get("path", "")).resolve()
    if not path.is_relative_to((out / "queries").resolve()) or not path.is_file():
        return f"{whose} are not in the output folder"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != file.get("sha256"):
        return f"{whose} are not those of its record"
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        if missing := sorted(set(names) - set(arrays.files)):
            return f"{whose} hold no {', '.join(missing)}"
        return {name: arrays[name] for name in names}
