"""One file that holds a training in the middle: written in one step, proven before it is used.

The file begins with a checksum over all that follows, which torch reads back without running code.
It says what made it: another version of a package, another device or other code of the training
loop would go on with other bits, so such a file is not used.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import protocols
from benchmark.study import environment, records
from benchmark.training import device
from protocols.errors import BenchmarkError, StoreError

FORMAT = "1"
ASIDE = ".aside"
_HEADER = hashlib.sha256().digest_size * 2 + 1  # hex digits and a newline
# What is in the id of a job already, each by its own digest.
_NAMED = ("methods", "datasets", "trunks", "recipes", "specs")
Identity = dict[str, str]


class UnusableError(BenchmarkError):
    """A checkpoint that cannot be gone on from; the message says why."""


def identity(job: str, on: str) -> Identity:
    """Return all that the bits of a training depend on, in words.

    Args:
        job: the content address of the job, which covers data, rules and the method's code.
        on: the job's device.
    """
    versions = {k: v for k, v in environment.versions().items() if k != "system"}
    found = {"format": FORMAT, "job": job, "training code": _code()}
    return found | {k: str(v) for k, v in {**versions, **device.described(on)}.items()}


def write(path: Path, made_by: Identity, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path``: plain data and tensors, which may be on a device.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    buffer = io.BytesIO(b"\n" * _HEADER)
    buffer.seek(_HEADER)
    torch.save({"identity": made_by, "state": dict(state)}, buffer)
    content = buffer.getbuffer()
    content[: _HEADER - 1] = hashlib.sha256(content[_HEADER:]).hexdigest().encode()
    records.write_bytes(path, content)


def read(path: Path, expected: Identity) -> dict[str, Any]:
    """Return the state that was written by ``expected``; tensors are on the CPU.

    Raises:
        FileNotFoundError: there is no file.
        UnusableError: it is damaged, or was made by something else.
    """
    try:
        content = memoryview(records.content(path))
    except StoreError as error:
        raise UnusableError(str(error)) from error
    checksum = hashlib.sha256(content[_HEADER:]).hexdigest().encode() + b"\n"
    if content[:_HEADER] != checksum:
        raise UnusableError("it is damaged")
    try:
        found = torch.load(io.BytesIO(content[_HEADER:]), weights_only=True, map_location="cpu")
        met, state = dict[str, str](found["identity"]), dict[str, Any](found["state"])
    # Broad: the checksum is right, so whatever this reader raises, the file is none of ours.
    except Exception as error:
        raise UnusableError(f"it is no checkpoint ({type(error).__name__})") from error
    for name in {**expected, **met}:
        then, now = met.get(name, "nothing"), expected.get(name, "nothing")
        if then != now:
            raise UnusableError(f"it was made with {name} {then}, here is {now}")
    return state


def set_aside(path: Path) -> None:
    """Rename a checkpoint that cannot be used, so that it is not met again."""
    with suppress(FileNotFoundError):
        path.replace(path.with_name(path.name + ASIDE))


@lru_cache(maxsize=1)
def _code() -> str:
    """Return 12 hex digits over the code that trains, apart from what cells name themselves."""
    found = hashlib.sha256()
    ours, theirs = Path(__file__).parent, Path(protocols.__path__[0])
    shared = [p for p in theirs.rglob("*.py") if p.relative_to(theirs).parts[0] not in _NAMED]
    for folder, paths in ((ours, ours.glob("*.py")), (theirs, shared)):
        for path in sorted(paths):
            found.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return found.hexdigest()[:12]
