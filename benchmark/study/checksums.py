"""Checksums of files, read piece by piece whatever their size, and kept beside what can be remade.

A file that a number is made from is either named with its checksum by a record, or it is a cache:
then ``NAME.sha256`` beside it says what was written, in the form of ``sha256sum``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmark.study.records import write_bytes
from protocols.errors import StoreError


def of_file(path: Path) -> str:
    """Return the sha256 of a file's content, 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sign(path: Path, checksum: str) -> None:
    """Write down what a cache holds, beside it.

    Args:
        path: the cache.
        checksum: of what was written to it, so that a disk that kept something else is noticed.

    Raises:
        StoreError: it cannot be written.
    """
    write_bytes(_beside(path), _line(path, checksum).encode())


def write_signed(path: Path, content: bytes) -> None:
    """Write a cache and its checksum.

    Raises:
        StoreError: it cannot be written.
    """
    write_bytes(path, content)
    sign(path, hashlib.sha256(content).hexdigest())


def intact(path: Path) -> bool:
    """Return whether ``path`` holds what its checksum says; False without a file or checksum."""
    if not (path.is_file() and _beside(path).is_file()):
        return False
    try:
        return _beside(path).read_bytes() == _line(path, of_file(path)).encode()
    except OSError:
        return False


def discard_damaged(paths: tuple[Path, ...]) -> list[Path]:
    """Remove the caches that are there and not intact, and return them.

    Raises:
        StoreError: one cannot be removed: it is a folder, say.
    """
    damaged = [path for path in paths if path.exists() and not intact(path)]
    for path in damaged:
        try:
            path.unlink()
            _beside(path).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path} is damaged and cannot be removed: {error.strerror}. Remove it, and run "
                "the command again: it is made anew"
            ) from error
    return damaged


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _line(path: Path, checksum: str) -> str:
    return f"{checksum}  {path.name}\n"
