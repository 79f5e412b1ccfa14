"""Batch-hard mining: each anchor's farthest positive and nearest negative."""

import torch
from torch import Tensor

from protocols import dense
from protocols.methods._distances import distances


def batch_hard(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return farthest positive minus nearest negative (B,), and which anchors have both (B,).

    For an anchor without a positive or a negative the value is minus infinity.

    Args:
        z: (B, D) rows, compared as they are.
        labels: (B,) classes; an anchor is no positive of itself.

    Source: Hermans, Beyer and Leibe 2017, arXiv:1703.07737, equation 5.
    """
    same = labels[:, None] == labels  # (B, B)
    d = distances(z)  # (B, B)
    positive = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    farthest = d.masked_fill(~positive, -torch.inf).amax(1)  # (B,)
    nearest = d.masked_fill(same, torch.inf).amin(1)
    return farthest - nearest, positive.any(1) & (~same).any(1)


def mean_or_zero(values: Tensor, which: Tensor, z: Tensor) -> Tensor:
    """Return the () mean of some values (B,); without any a 0 that still has ``z`` as source."""
    if not dense.on_host(z):
        return dense.mean_of(values, which)
    return values[which].mean() if which.any() else z.sum() * 0.0
