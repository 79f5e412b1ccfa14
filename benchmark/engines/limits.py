"""What this place allows a process: CPUs and memory, of the machine or of a container on it.

A container, a batch system or systemd limits processes by control groups. Linux has them in two
versions (``man 7 cgroups``); a limit of a group holds for all groups below it as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from protocols.errors import InvalidInputError

ROOT = Path("/")
# Measured: a process that has loaded torch for the CPU and the packages around it, before it
# computes anything, and the coordinator, which loads more.
WORKER_BYTES, COORDINATOR_BYTES = 500 << 20, 700 << 20


def cpus(root: Path | None = None) -> float:
    """Return how many CPUs this process may use; a fraction where a quota gives one.

    Args:
        root: the file system that shows processes and control groups; None for this one.
    """
    # macOS and Windows have no affinity that could be asked for.
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min([float(here or 1), *_quotas(root)])


def memory_bytes(root: Path | None = None) -> int | None:
    """Return how many bytes this process and its children may use; None where nobody says.

    Args:
        root: as for :func:`cpus`.
    """
    found = [size for size in _memory_limits(root) if size > 0]
    with suppress(AttributeError, ValueError, OSError):  # Windows does not say
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found, default=None)


def workers_that_fit(root: Path | None = None) -> int | None:
    """Return for how many workers there is memory before they compute anything; None: unknown."""
    allowed = memory_bytes(root)
    return None if allowed is None else max(0, (allowed - COORDINATOR_BYTES) // WORKER_BYTES)


def check_room(workers: int, root: Path | None = None) -> None:
    """Raise InvalidInputError where so many workers do not fit into memory, even idle ones.

    The system would kill one of them, or the coordinator, without a word.
    """
    fit, allowed = workers_that_fit(root), memory_bytes(root)
    if fit is None or allowed is None or workers <= fit:
        return
    needed = COORDINATOR_BYTES + workers * WORKER_BYTES
    advice = f"Run with --jobs {fit}" if fit else "Lift the limit of the container or batch job"
    raise InvalidInputError(
        f"{workers} worker(s) and this process take about {needed >> 20:,} MB before they compute "
        f"anything, this place allows {allowed >> 20:,} MB. {advice}"
    )


def _quotas(root: Path | None) -> Iterator[float]:
    for folder in _groups(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")  # version 2
        if not quota:
            quota = _read(folder / "cpu.cfs_quota_us")
            period = _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
            yield int(quota) / int(period)  # else "max", or -1: no limit


def _memory_limits(root: Path | None) -> Iterator[int]:
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (size := _read(folder / name)).isdecimal():
                yield int(size)


def _groups(root: Path | None, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups, up to the highest that can be seen."""
    root = root or ROOT
    own: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)  # version 2 names no controller
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        top, mounted = before.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind == "cgroup2":
            group = own.get("")
        elif kind == "cgroup" and controller in options.split(","):
            group = own.get(controller)
        else:
            continue
        if group is None:
            continue
        place = root / mounted.lstrip("/")
        # A container may see its own group as the top, whatever it is called outside.
        inside = group == top or group.startswith(top.rstrip("/") + "/")
        parts = [part for part in group[len(top) :].split("/") if part] if inside else []
        if ".." in parts:
            parts = []
        for depth in range(len(parts), -1, -1):
            yield place.joinpath(*parts[:depth])


def _read(path: Path) -> str:
    """Return a file's text without space around it, nothing where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
