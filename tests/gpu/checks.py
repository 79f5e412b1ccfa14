"""What a check is, and which there are. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

# name -> module, limit in words, seconds after which it is given up; the telling ones first
CHECKS = {
    "card": ("correct", "printed", 60),
    "crop": ("correct", "<= 2 % of values a level off the kernel; eval equal", 60),
    "capture": ("correct", "every method recorded, all the bits of ordinary steps", 150),
    "fit": ("speed", "of a bare graph: tiny >= 0.5, bn_inception and resnet50 >= 0.85", 150),
    "alone": ("speed", "a recorded trunk under a loss that waits is faster than none", 90),
    "waits": ("correct", "0 waits in a step", 60),
    "jobs": ("sharing", "tiny steps a second together >= 2,000", 120),
    "quick": ("speed", "42 jobs of triplet, ms, group under quick <= 30 s", 120),
    "validation": ("speed", "ms an image: tiny <= 0.02, bn_inception <= 0.15", 90),
    "metrics": ("speed", "equal to the CPU's; 60,502 x 512 <= 0.3 s", 60),
    "methods": (
        "correct",
        "a step as on the CPU: loss 1e-4, weights 1e-3, change 1 %",
        120,
    ),
    "recipes": ("correct", "recorded, the bits of ordinary steps", 90),
    "broken": ("failures", "typed reasons, neighbours unharmed", 120),
    "mps": ("sharing", "tiny steps a second together >= 2,000; what breaks is typed", 100),
    "toy": ("failures", "the same records with 1 and 4 jobs a card", 120),
    "column": ("sharing", "hours of the paper's CUB column at its shortest <= 10", 120),
    "plugins": ("correct", "the trunk recorded, the bits of ordinary steps, the reason told", 90),
    "memory": ("failures", "one process for 20 jobs of a worker, reserved memory flat", 90),
    "visible": ("failures", "as many devices as are there", 60),
    "killed": ("failures", "all gone and memory freed 10 s after the coordinator, MPS too", 60),
}


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        passed: None where there is no limit.
        text: in a few words.
        values: further numbers for the file.
    """

    passed: bool | None
    text: str
    values: dict[str, Any]


def function(name: str) -> Callable[[], Result]:
    """Return the check called ``name``."""
    module = import_module(f"tests.gpu.{CHECKS[name][0]}")
    found: Callable[[], Result] = getattr(module, f"{name}_check", None) or getattr(module, name)
    return found
