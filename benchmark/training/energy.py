"""What a machine's processors and a GPU say they used, in joules; None where they do not tell.

Linux counts a processor package's energy under ``/sys/class/powercap`` (RAPL), mostly readable by
root alone. An NVIDIA card counts its own (NVML), read by the package pynvml where that is
installed. Both count all that runs there, whoever started it. Nothing here is an estimate: what
cannot be read, or may have been read wrongly, is not told.
"""

from __future__ import annotations

import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
EVERY_S = 20.0  # a counter is read so often, because it starts again at 0 after its range
MOST_W = 1000.0  # more than any package draws; what it could reach unseen is not told
MICRO = 1e-6  # J in a unit of a powercap counter


class Packages:
    """The joules of all processor packages of this machine from now on.

    A package's counter starts again at 0 when its range is full, which takes minutes, so it is
    read by a thread of its own, which ends with :meth:`close`; nothing runs where there is no
    counter. ``psys`` and ``core`` count parts of the same energy again and are left out, and so
    is ``intel-rapl-mmio``, a second way to the same counters.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self._zones: list[_Zone] | None = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        try:
            for folder in sorted(root.glob("intel-rapl:*")):
                name = (folder / "name").read_text("ascii").strip()
                if name.startswith("package"):
                    self._zones.append(_Zone(folder))
        except (OSError, ValueError):
            self._zones = None
        self._thread = threading.Thread(target=self._watch, name="packages", daemon=True)
        if self._zones:
            self._thread.start()

    def read(self) -> float | None:
        """Return the joules until now, None where a package does not tell."""
        with self._lock:
            try:
                found = [zone.read() for zone in self._zones or ()]
            except (OSError, ValueError):
                found = []
            if not found or None in found:
                self._zones = None  # a gap in one counter is never filled
                return None
        joules = sum(joules for joules in found if joules is not None)
        return joules if joules > 0 else None  # a counter that stands still counts nothing

    def close(self) -> None:
        """Stop reading."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S) and self._zones is not None:
            self.read()


class _Zone:
    """One package's counter, its new starts at 0 undone."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text("ascii"))
        self._last, self._at = self._now()
        self._joules = 0.0

    def read(self) -> float | None:
        """Return the joules since the start, None where the counter may have gone round unseen."""
        value, at = self._now()
        if (at - self._at) * MOST_W > self._range * MICRO:
            return None
        gone = value - self._last
        self._joules += (gone if gone >= 0 else gone + self._range) * MICRO
        self._last, self._at = value, at
        return self._joules

    def _now(self) -> tuple[int, float]:
        return int(self._file.read_text("ascii")), time.monotonic()


class Card:
    """The joules of one NVIDIA card from now on.

    Args:
        uuid: the card's, as torch says it; empty for none.
    """

    def __init__(self, uuid: str) -> None:
        self._nvml: Any = None
        if not uuid:
            return
        try:
            self._nvml = import_module("pynvml")
            self._nvml.nvmlInit()
            self._handle = self._nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        except ImportError:
            return
        except self._nvml.NVMLError:
            self._nvml = None
            return
        self._start = self._now()

    def read(self) -> float | None:
        """Return the joules until now, None where the card does not tell."""
        if self._nvml is None or self._start is None:
            return None
        now = self._now()
        return None if now is None or now <= self._start else (now - self._start) / 1000

    def _now(self) -> int | None:
        """Return millijoules since the driver was loaded; cards before Volta do not count."""
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            return None
