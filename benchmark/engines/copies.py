"""The copies of files that a machine of a cluster keeps, and who writes them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from protocols.errors import StoreError


def node_folder() -> Path:
    """Return where a machine keeps its copies; they are used again by later studies.

    Raises:
        StoreError: it belongs to somebody else.
    """
    folder = Path(tempfile.gettempdir()) / f"dml-benchmark-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StoreError(f"{folder} belongs to another user; set TMPDIR to a folder of your own")
    return folder


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file while its folder is filled; other workers of the machine wait."""
    import fcntl  # only now, because Windows has none

    with path.open("w") as file:
        with suppress(OSError):  # without locks each worker writes a whole copy of its own
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
