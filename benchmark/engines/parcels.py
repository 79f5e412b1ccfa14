"""Files on their way to the machines of a cluster, in pieces, and the copies made of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.engines.copies import held, node_folder
from protocols.errors import StoreError
from protocols.protocol import digest

PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class Parcel:
    """A file in the cluster's object store, in pieces, and what its content must be."""

    path: Path
    sha256: str
    pieces: tuple[Any, ...]


def pack(path: Path, put: Callable[[bytes], Any]) -> Parcel:
    """Return the file at ``path``; ``put`` gives a piece to the store and says where it lies."""
    seen, pieces = hashlib.sha256(), []
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            seen.update(piece)
            pieces.append(put(piece))
    return Parcel(path, seen.hexdigest(), tuple(pieces))


def unpack(group: tuple[Parcel, ...], get: Callable[[Any], bytes]) -> Iterator[tuple[Path, Parcel]]:
    """Yield each parcel of a group with the folder on this machine that holds them all.

    Args:
        group: parcels that must lie in one folder.
        get: gives a piece of what :func:`pack` put.

    Raises:
        StoreError: the content is not what was sent, or the disk is full.
    """
    folder = node_folder() / digest([(p.path.name, p.sha256) for p in group], 16)
    folder.mkdir(exist_ok=True)
    with held(folder / ".lock"):  # the workers of a machine share one copy
        for parcel in group:
            if not (folder / parcel.path.name).exists():
                write(parcel, folder / parcel.path.name, get)
    for parcel in group:
        yield folder, parcel


def write(parcel: Parcel, path: Path, get: Callable[[Any], bytes]) -> None:
    """Write a parcel to ``path``, which appears complete and checked, or not at all.

    Raises:
        StoreError: the content is not what was sent, or the disk is full.
    """
    part, seen = path.with_name(f".{path.name}.{os.getpid()}.part"), hashlib.sha256()
    try:
        with part.open("wb") as file:
            for piece in parcel.pieces:
                content = get(piece)
                seen.update(content)
                file.write(content)
        if seen.hexdigest() != parcel.sha256:
            raise StoreError(f"{path}: what arrived is not what was sent; run the command again")
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write {path} on {os.uname().nodename}: {error.strerror}"
        ) from None
    finally:
        part.unlink(missing_ok=True)
