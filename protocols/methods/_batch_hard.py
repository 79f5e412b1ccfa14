"""Batch-hard mining: each anchor's farthest positive and nearest negative."""

import torch
from torch import Tensor

from protocols.methods._distances import distances


def batch_hard(z: Tensor, labels: Tensor) -> Tensor:
    """Return farthest positive minus nearest negative (A,) of the anchors that have both.

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
    anchors = positive.any(1) & (~same).any(1)
    return farthest[anchors] - nearest[anchors]


def mean_or_zero(values: Tensor, z: Tensor) -> Tensor:
    """Return the () mean; without values a 0 that still has ``z`` as its source."""
    return values.mean() if len(values) else z.sum() * 0.0
