"""From when to when a job used which machine and card, and what these say they used meanwhile."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmark.training.energy import Card, Packages

BOOT = Path("/proc/sys/kernel/random/boot_id")


class Span:
    """One stretch of a job on this machine, from now on.

    Args:
        device: the job's.
    """

    def __init__(self, device: str) -> None:
        self._began, self._clock = time.time(), time.perf_counter()
        self._card = card_of(device)
        self._packages, self._gpu = Packages(), Card(uuid_of(device))

    def told(self) -> dict[str, Any]:
        """Return the span until now, as :mod:`benchmark.study.spending` reads it."""
        end = self._began + time.perf_counter() - self._clock
        found = {"machine": machine(), "start": round(self._began, 3), "end": round(end, 3)}
        joules = {"package_j": self._packages.read(), "card_j": self._gpu.read()}
        return {
            **found,
            **({"card": self._card} if self._card else {}),
            **{name: round(value, 3) for name, value in joules.items() if value is not None},
        }

    def close(self) -> None:
        """Stop reading counters."""
        self._packages.close()


@lru_cache(maxsize=1)
def machine() -> str:
    """Return 12 hex digits that differ between machines and name none.

    Containers on one machine share it, as they share its counters and its price.
    """
    try:
        known = BOOT.read_text("ascii")
    except OSError:  # only Linux has it
        known = str(uuid.getnode())
    return _digits(known)


def card_of(device: str) -> str:
    """Return 12 hex digits for a GPU, empty for a job on the CPU."""
    if not device.startswith("cuda"):
        return ""
    seen = f"{machine()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')} {device}"
    return _digits(uuid_of(device) or seen)


def uuid_of(device: str) -> str:
    """Return a GPU's own number; empty on a CPU, and where torch does not say it."""
    if not device.startswith("cuda"):
        return ""
    try:
        return str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
    except (RuntimeError, AssertionError):  # no such card: the job itself will say so
        return ""


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
