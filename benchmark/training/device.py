"""A job's device: what computed its numbers and how precisely, read back from torch."""

from __future__ import annotations

import gc
import os
import re
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
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
    where nobody chose and float32 stays float32. ``mkl_cbwr`` is the environment's word to Intel's
    library, which may bind it to fewer instructions than the processor has; ``unset`` lets it
    choose by the processor.
    """
    kind = torch.device(device).type
    place = {"cuda": ("cuda.matmul", "cudnn.conv")}.get(kind, ("mkldnn.matmul", "mkldnn.conv"))
    matmul, conv = map(_precision, place)
    found = {
        "device": _name(device),
        "device_kind": kind,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl_cbwr": os.environ.get("MKL_CBWR", "unset"),
        "matmul_precision": matmul,
        "conv_precision": conv,
        "deterministic": torch.get_deterministic_debug_mode() == _STRICT,
    }
    if kind == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(cudnn), "driver": _driver()}
    return found


def recorded(device: str) -> dict[str, Any]:
    """Return what records say of a device: what it is, and ``mps`` where jobs use it together.

    That is by NVIDIA's Multi-Process Service, which moves no bit: a checkpoint does not ask for it.
    """
    together = device.startswith("cuda") and "DML_MPS" in os.environ
    return {**described(device), **({"mps": True} if together else {})}


def own_stream(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which all work goes to a stream of its own; on a CPU nothing."""
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(_stream(device))


def layout(device: torch.device, precision: str) -> torch.memory_format:
    """Return how images and weights lie in memory: pixel by pixel, which is the fastest on a CPU.

    On a GPU it is for everything but whole float32: there cuDNN has no kernels for it and turns
    every tensor round and back, a fifth of the kernels of a small trunk's step. Those lie plane
    by plane.
    """
    whole = device.type == "cuda" and precision == "fp32"
    return torch.contiguous_format if whole else torch.channels_last


@lru_cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of this process on ``device``.

    CUDA's libraries keep a workspace of 33 to 66 MB for every stream they ever saw, so a stream
    of its own for every job would fill the card.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def answers(device: torch.device) -> bool:
    """Return whether a device still allocates, draws at random and computes; waits for it.

    A recording that failed can leave any of these refused. The generator is as before.
    """
    if device.type != "cuda":
        return True
    try:
        state = torch.cuda.get_rng_state(device)
        torch.rand(8, device=device).sum().item()
        torch.cuda.set_rng_state(state, device)
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


def tidy(device: str) -> None:
    """Give a job's memory on a GPU back, whatever state the device is in."""
    if device.startswith("cuda"):
        gc.collect()  # recordings and networks hold each other
        with suppress(RuntimeError):  # a broken device refuses; its process ends soon
            torch.cuda.empty_cache()


def peak_memory_mb(device: str) -> int:
    """Return the job's largest memory on a GPU, with what torch keeps in reserve.

    On a CPU it is the largest of the whole process, earlier jobs included.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved(device) >> 20
    import resource  # only now, because Windows has none and still reads tables

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
