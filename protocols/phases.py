"""Phases: what a training must have begun before patience may end it, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from protocols.errors import PluginError


@dataclass(frozen=True)
class Phase:
    """A part of a training that begins at a step known before it starts.

    Attributes:
        name: what plans, tables and errors call it.
        begins: its first training step, counted from 0.
        settled: the step from which this phase lets a training stop. Later than ``begins`` where
            the change is gradual, as a falling rate is; None stands for ``begins``.

    Raises:
        PluginError: steps that cannot be.
    """

    name: str
    begins: int
    settled: int | None = None

    def __post_init__(self) -> None:
        if self.begins < 0 or self.may_stop_from < self.begins:
            raise PluginError(
                f"phase {self.name!r}: begins at {self.begins} and is settled at {self.settled}; "
                "expected 0 <= begins <= settled"
            )

    @property
    def may_stop_from(self) -> int:
        """Return the step from which patience may count."""
        return self.begins if self.settled is None else self.settled


def first_step(share: float, steps: int) -> int:
    """Return the first of ``steps`` steps that is at ``share`` of them or after it."""
    near = math.floor(share * steps)  # a product may be rounded to either side
    return next(step for step in range(max(0, near - 1), near + 3) if step / steps >= share)
