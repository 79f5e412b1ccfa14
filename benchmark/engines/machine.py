"""This machine: devices, workers, disk, and what lies in an output folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmark.engines import limits
from benchmark.engines.holding import HOLDER
from protocols.errors import InvalidInputError, StoreError
from protocols.protocol import Protocol

MIN_FREE_BYTES = 256 << 20
APPENDED = (".lock", "log.txt", "workers.txt")
FILES = (
    *(*APPENDED, "study.json", "study.id", "looks.json", "mirrored.json"),
    "given.json",
    *("search.behind", "search.json"),
    *("report/index.html", HOLDER),
)
FOLDERS = (
    *("records", "queries", "vectors", "weights", "references"),
    *("partial", "cache", "tables", "report"),
)
# What the mirror and the searches lay beside them; an open database has files of its own.
OTHERS = ("mlflow.db", "mlartifacts", "mlruns", "search.db")
VOLUME = "lost+found"  # what a file system lays at the root of a new volume
MOST_A_CARD = 8
NAMED = 3  # other files in a message; the rest are counted


def pick_device(asked: str) -> str:
    """Return the device that jobs use.

    Raises:
        InvalidInputError: a device that is not there.
    """
    if asked == "cpu":
        return asked
    import torch  # only now, because a study on the CPU needs no torch in this process

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return "cuda" if count else "cpu"
    name, _, number = asked.partition(":")
    if name != "cuda" or (number and not number.isdecimal()):
        raise InvalidInputError(f"device {asked!r}: expected auto, cpu, cuda or cuda:N")
    if int(number or 0) >= count:
        raise InvalidInputError(
            f"device {asked!r} is not there: this machine shows {count} CUDA device(s). "
            "Use --device cpu or --device auto"
        )
    return asked


def cuda_devices(device: str) -> tuple[str, ...]:
    """Return the CUDA devices that ``device`` stands for, as CUDA_VISIBLE_DEVICES names them."""
    if device == "cpu":
        return ()
    import torch  # only now, as in pick_device

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = range(count) if named is None else named.split(",")
    # CUDA ends its list at the first name that is no device; what follows is not there.
    visible = [str(name).strip() for name in names][:count]
    number = device.partition(":")[2]
    return (visible[int(number)],) if number else tuple(visible)


def default_workers(devices: tuple[str, ...], protocol: Protocol) -> int:
    """Return how many jobs run at once: the CPUs allowed over a job's threads.

    No more than there is memory for. On GPUs as many on each, at most ``MOST_A_CARD``; how many
    of them pay is measured later, but for short work.
    """
    jobs = max(1, int(limits.cpus() // protocol.threads_per_job))
    fit = limits.workers_that_fit()
    jobs = jobs if fit is None else max(1, min(jobs, fit))
    return len(devices) * min(MOST_A_CARD, max(1, jobs // len(devices))) if devices else jobs


def check_disk(out: Path) -> None:
    """Raise StoreError unless ``out`` can be written and has room for a study's records."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(f"cannot write to {out}: {error.strerror}. Choose another --out") from None
    free = shutil.disk_usage(out).free
    if free < MIN_FREE_BYTES:
        raise StoreError(
            f"{out} has {free >> 20} MB free, a study needs {MIN_FREE_BYTES >> 20} MB. "
            "Make room or choose another --out"
        )


def check_places(out: Path) -> None:
    """Raise StoreError where something else lies in the place of a file or folder of a study.

    Neither may the folder be that of other files, see :func:`check_own_folder`. A pipe would be
    waited for without end, and a dangling link would be written through.
    """
    folders = [out, *(out / name for name in FOLDERS)]
    files = [*(out / name for name in FILES), *sorted((out / "tables").glob("*.csv"))]
    for path in (*folders, *files):
        there = os.path.lexists(path)
        if there and not (path.is_dir() if path in folders else path.is_file()):
            met, expected = _kind(path), "a folder" if path in folders else "a file"
            raise StoreError(
                f"{path} is {met}, expected {expected} or nothing. Remove it, or choose another "
                "--out"
            )
    check_own_folder(out)


def check_own_folder(out: Path) -> None:
    """Raise StoreError where a new study would lie among somebody's own files.

    A start that was killed leaves files of a study without ``study.json``, and a rerun is laid out
    with records alone: both go on. Hidden files are no reason.
    """
    if (out / "study.json").exists() or any(out.glob("records/*/*/*/*/*.json")):
        return
    known = tuple(Path(name).parts[0] for name in (*FILES, *FOLDERS, *OTHERS))
    beside = tuple(f"{name}{mark}" for name in (*FILES, *OTHERS) for mark in ".-")
    try:
        met = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    except OSError as error:
        raise StoreError(
            f"cannot read {out}: {error.strerror}. Give read access, or choose another --out"
        ) from None
    others = [n for n in met if not n.startswith((".", *beside)) and n not in (*known, VOLUME)]
    if others:
        more = f" and {len(others) - NAMED:,} more" if len(others) > NAMED else ""
        raise StoreError(
            f"{out} holds other files ({', '.join(others[:NAMED])}{more}) and no study; give --out "
            "a new or an empty folder, or that of a study"
        )


def check_writable(out: Path) -> None:
    """Raise StoreError where a file that a study adds lines to is there and cannot be written.

    Called once :func:`check_places` has seen that they are plain files. All others are replaced.
    """
    for path in (out / name for name in APPENDED):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(
                f"cannot write to {path}: {error.strerror}. Give write access, or choose another "
                "--out"
            ) from None


def _kind(path: Path) -> str:
    kinds = {"a folder": path.is_dir, "a file": path.is_file, "a pipe": path.is_fifo}
    found = [kind for kind, holds in kinds.items() if holds()]
    return found[0] if found else "a link to nothing" if path.is_symlink() else "no plain file"
