"""A job's device: what computed its numbers and how precisely, read back from torch."""

from __future__ import annotations

import re
import resource
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

UNKNOWN = "unknown"
_STRICT = 2  # torch's debug mode in which an operation that is not deterministic is an error


def described(device: str) -> dict[str, Any]:
    """Return what the bits of a number depend on beside code, data and package versions.

    Switches are read when a job has ended, not when they are set, so what a method turned shows.
    ``cpu_capability`` is the instruction set that torch's own CPU kernels use; on a GPU the
    metrics still do. A precision is torch's word: ``ieee``, ``tf32``, ``bf16``, or ``none``
    where nobody chose and float32 stays float32.
    """
    kind = torch.device(device).type
    place = {"cuda": ("cuda.matmul", "cudnn.conv")}.get(kind, ("mkldnn.matmul", "mkldnn.conv"))
    matmul, conv = map(_precision, place)
    found = {
        "device": _name(device),
        "device_kind": kind,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "matmul_precision": matmul,
        "conv_precision": conv,
        "deterministic": torch.get_deterministic_debug_mode() == _STRICT,
    }
    if kind == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(cudnn), "driver": _driver()}
    return found


def peak_memory_mb(device: str) -> int:
    """Return the job's largest memory on a GPU; on a CPU its process', earlier jobs included."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) >> 20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def _name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} thread(s)"


def _precision(switch: str) -> str:
    """Return the float32 precision below ``torch.backends``; older torch has no such switch."""
    found: Any = torch.backends
    for part in (*switch.split("."), "fp32_precision"):
        found = getattr(found, part, None)
    return UNKNOWN if found is None else str(found)


@lru_cache(maxsize=1)
def _driver(said: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Return the NVIDIA driver's version as its kernel module says it."""
    try:
        found = re.search(r"\s(\d{3,}(?:\.\d+)+)\s", said.read_text(encoding="utf-8"))
    except OSError:  # not Linux, or hidden from a container
        return UNKNOWN
    return found[1] if found else UNKNOWN
