"""A recipe: optimiser, schedule and BatchNorm policy, the same for all methods of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BatchNormPolicy = Literal["live", "frozen_stats", "frozen_all"]


@dataclass(frozen=True)
class Recipe:
    """How parameters move. A method never sees it.

    Attributes:
        optimizer: ``adam``, ``adamw`` or ``rmsprop``.
        lr: learning rate of trunk and head.
        weight_decay: coupled (adam, rmsprop) or decoupled (adamw).
        momentum: of rmsprop; the adam family keeps its usual betas.
        warmup_steps: the rate rises linearly over so many steps.
        batch_norm: policy of the trunk's BatchNorm layers.
        clip: largest gradient norm, None for no limit.
    """

    name: str
    summary: str
    optimizer: Literal["adam", "adamw", "rmsprop"]
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    warmup_steps: int = 0
    batch_norm: BatchNormPolicy = "frozen_stats"
    clip: float | None = None
