"""``values-N.npz``: what a run found for every query, so that others can recompute its numbers.

It is the part of the study's per-query file that numbers follow from: the labels of the test
images, which of them are queries, and for both embeddings each query's metrics and first hit. The
neighbours stay behind; they are most of the bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from benchmark.study.scores import EMBEDDINGS
from protocols.errors import InvalidInputError
from protocols.metrics import METRICS

MAX_UNPACKED = 64 << 20  # bytes; Stanford Online Products under four folds takes 6 MB
# Of the joined embedding, where the test reports recall; both or none. A row reports no recall of
# the fold models, and theirs would be a third of the file.
ALONE = ("map_at_10", "first_hit")
_HEADER = 128  # bytes before the numbers, as numpy writes them for shapes like these
_LENGTH_AT = 8  # where format 1.0 says in two bytes how long the rest of the header is

FLOAT, INT = np.dtype("<f4"), np.dtype("<i4")

Array = NDArray[Any]


def names(*, reported: bool) -> tuple[str, ...]:
    """Return the names of a file's arrays; ``reported`` where the test reports recall."""
    alone = [f"concatenated_{name}" for name in (ALONE if reported else ())]
    return ("labels", "query", *(f"{e}_{n}" for e in EMBEDDINGS for n in METRICS), *alone)


_NAMES = names(reported=True)


@dataclass(frozen=True, eq=False)
class Values:
    """What a run found for its Q queries among N test images with F fold models.

    Attributes:
        sha256: of the file.
        labels: (N,) int32 class ids.
        query: (Q,) int32 positions of the queries in ``labels``, ascending.
        found: by metric (F + 1, Q), the joined embedding first, then the fold models; where
            recall is reported also ``first_hit`` and ``map_at_10`` of the joined one, (1, Q).
            Float32, NaN where a query is excluded; first hits are int32.
    """

    sha256: str
    labels: Array
    query: Array
    found: dict[str, Array]


def pack(arrays: dict[str, Array]) -> bytes:
    """Return the file's bytes from the arrays of a study's per-query file; equal in, equal out."""
    kept = {name: arrays[name] for name in _NAMES if name in arrays}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **kept)
    return buffer.getvalue()


def unpack(content: bytes) -> Values:
    """Return what a file holds.

    Raises:
        InvalidInputError: it is no such file: other names, types or sizes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            arrays = _arrays(file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InvalidInputError(f"does not read as arrays: {error!s:.160}") from error
    except ValueError as error:
        raise InvalidInputError(f"does not read as arrays: {error!s:.160}") from error
    return _values(arrays, content)


def _arrays(file: zipfile.ZipFile) -> dict[str, Array]:
    """Return the arrays of an archive whose sizes, as it states them, are within bounds."""
    members = file.infolist()
    stems = [member.filename.removesuffix(".npy") for member in members]
    if len(set(stems)) < len(stems) or not set(stems) <= set(_NAMES):
        raise ValueError(f"holds {', '.join(stems)[:60]}; expected {len(_NAMES)} names once")
    total = sum(member.file_size for member in members)
    if total > MAX_UNPACKED:
        raise ValueError(f"unpacks to {total} bytes; expected {MAX_UNPACKED} at most")
    return {
        stem: _array(stem, file.read(member)) for stem, member in zip(stems, members, strict=True)
    }


def _array(name: str, body: bytes) -> Array:
    """Return one array; its shape must fit the bytes that are there."""
    start = _LENGTH_AT + 2 + int.from_bytes(body[_LENGTH_AT : _LENGTH_AT + 2], "little")
    try:
        shape, fortran, dtype = _header(body[: min(start, 8 * _HEADER)])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    whole = name in ("labels", "query") or name.endswith("first_hit")
    expected = INT if whole else FLOAT
    dimensions = 2 if name.startswith("separated_") else 1
    if dtype != expected or fortran or len(shape) != dimensions:
        raise ValueError(f"{name}: {dtype} {shape}; expected {expected}, {dimensions} axes")
    if len(body) - start != expected.itemsize * math.prod(shape):
        raise ValueError(f"{name}: {len(body) - start} bytes for shape {shape}")
    found: Array = np.frombuffer(body, expected, offset=start).reshape(shape)
    return found


@lru_cache(maxsize=64)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and type from an array's first bytes; rows of one dataset share them."""
    stream = io.BytesIO(head)
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("expected numpy's format 1.0")
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = npy.read_array_header_1_0(stream)
    return found


def _values(arrays: dict[str, Array], content: bytes) -> Values:
    """Return the arrays together; every one must speak of the same queries and folds."""
    reported = "concatenated_first_hit" in arrays
    if odd := set(arrays) ^ set(names(reported=reported)):
        raise InvalidInputError(f"too few or too many arrays: {', '.join(sorted(odd))[:80]}")
    labels, query = arrays["labels"], arrays["query"]
    if not len(query) or labels.min(initial=0) < 0:
        raise InvalidInputError("no queries, or a class below 0")
    if query[0] < 0 or query[-1] >= len(labels) or (np.diff(query) <= 0).any():
        raise InvalidInputError(f"query: expected ascending positions in 0..{len(labels) - 1}")
    folds = arrays[f"separated_{METRICS[0]}"].shape[0]
    for name, array in arrays.items():
        shape = (folds, len(query)) if name.startswith("separated_") else query.shape
        if name != "labels" and array.shape != shape:
            raise InvalidInputError(f"{name}: {array.shape}; expected {shape}")
    found = {name: arrays[f"concatenated_{name}"][None] for name in (ALONE if reported else ())}
    for name in METRICS:
        joined, apart = arrays[f"concatenated_{name}"], arrays[f"separated_{name}"]
        found[name] = np.concatenate([joined[None], apart])
    for name, rows in found.items():
        if name != "first_hit" and (
            np.fmin.reduce(rows, axis=None) < 0 or np.fmax.reduce(rows, axis=None) > 1
        ):
            raise InvalidInputError(f"{name}: expected fractions, or NaN for a query left out")
    return Values(hashlib.sha256(content).hexdigest(), labels, query, found)
