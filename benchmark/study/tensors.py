"""Arrays in one file that runs no code when it is read: the safetensors format, by numpy alone.

Machines that only train have no package for it, and the package writes what it is told beside the
arrays in an order that changes from one process to the next. Here equal content is equal bytes.

Source: the format's own description: eight bytes with the length of a JSON header, the header,
then the arrays' bytes without gaps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import StoreError

Arrays = dict[str, NDArray[Any]]

NOTE = "benchmark"  # the one word under which a file carries words of its own
_CODES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: code for code, dtype in _CODES.items()}


def pack(arrays: Mapping[str, NDArray[Any]], note: object) -> bytes:
    """Return the file's bytes; equal arrays and notes give equal bytes.

    Args:
        arrays: by name, of the plain types of numpy.
        note: plain data, kept as JSON.
    """
    text = json.dumps(note, sort_keys=True, separators=(",", ":"), allow_nan=False)
    header: dict[str, Any] = {"__metadata__": {NOTE: text}}
    pieces, at = [], 0
    # wide types first, so that every array begins at a multiple of its own width
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):
        values = arrays[name]
        content = np.ascontiguousarray(values).tobytes()
        shape, end = list(values.shape), at + len(content)
        header[name] = {"dtype": _NAMES[values.dtype], "shape": shape, "data_offsets": [at, end]}
        pieces.append(content)
        at = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *pieces])


def unpack(content: bytes, name: str) -> tuple[Arrays, Any]:
    """Return the arrays and the note of a file's bytes.

    Raises:
        StoreError: not such a file, or one that another program wrote; it begins with ``name``.
    """
    try:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        note = json.loads(header.pop("__metadata__")[NOTE])
        body = memoryview(content)[8 + size :]
        return {key: _array(body, entry) for key, entry in header.items()}, note
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{name}: not a file of weights of this program ({type(error).__name__}: {error}). "
            "Expected what `export` writes with --to NAME.safetensors"
        ) from error


def _array(body: memoryview, entry: dict[str, Any]) -> NDArray[Any]:
    begin, end = entry["data_offsets"]
    values: NDArray[Any] = np.frombuffer(body[begin:end], _CODES[entry["dtype"]])
    return values.reshape(entry["shape"])
