"""Euclidean distances within a batch, the same exact form for every method that needs them."""

import torch
from pytorch_metric_learning.distances import LpDistance
from torch import Tensor


def distances(rows: Tensor, others: Tensor | None = None) -> Tensor:
    """Return Euclidean distances (A, B) between (A, D) ``rows`` and (B, D) ``others``.

    Without ``others`` they are the distances between all pairs of rows. Equal rows have a
    distance of exactly 0 and a gradient of 0; the gradient is exact everywhere else.
    """
    squared = squared_distances(rows, others)
    # The slope of the root at 0 is infinite, and infinity times 0 would be NaN.
    apart = squared > 0
    return torch.where(apart, squared, 1.0).sqrt() * apart


def squared_distances(rows: Tensor, others: Tensor | None = None) -> Tensor:
    """Return squared Euclidean distances (A, B) between (A, D) ``rows`` and (B, D) ``others``.

    Without ``others`` they are those between all pairs of rows.
    """
    # From differences: with the Gram matrix |a|^2 + |b|^2 - 2ab, close rows cancel and what is
    # left is rounding noise. It takes A x B x D numbers of memory for a while.
    return (rows[:, None] - (rows if others is None else others)).square().sum(-1)


class ExactDistance(LpDistance):  # type: ignore[misc]
    """The Euclidean distance for the library's losses, in the exact form.

    The library calls ``torch.cdist``, which takes the Gram matrix above 25 rows: with a usual
    batch the float32 gradients of embeddings that have come close are noise.
    """

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor | None) -> Tensor:
        """Return (A, B) distances between (A, D) and (B, D) rows."""
        return distances(query_emb, ref_emb)
