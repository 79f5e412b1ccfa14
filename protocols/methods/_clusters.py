"""k-means and the renaming of clusters, small and exact, from one generator."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from protocols.errors import InvalidInputError

Labels = NDArray[np.int64]


def kmeans(
    rows: NDArray[np.float32],
    count: int,
    rng: np.random.Generator,
    *,
    restarts: int = 5,
    iterations: int = 100,
) -> Labels:
    """Return the cluster 0..count-1 of each row: the best of ``restarts`` by total distance.

    Starts from k-means++ and moves means until no row changes its cluster. A cluster that runs
    empty takes the row farthest from its own mean. Computed in float64 on the CPU, so a seed
    gives the same bits.

    Args:
        rows: (N, d).
        count: of clusters; at most N.
        rng: the only source of randomness.
        restarts: tries.
        iterations: most moves of the means in each.

    Raises:
        InvalidInputError: fewer rows than clusters.
    """
    if len(rows) < count:
        raise InvalidInputError(f"{len(rows)} images cannot make {count} clusters")
    x = torch.from_numpy(np.asarray(rows, np.float64))
    tries = [_lloyd(x, x[_spread(x, count, rng)], iterations) for _ in range(restarts)]
    return min(tries, key=lambda found: found[1])[0].numpy()  # the first of equals


def renamed(new: Labels, old: Labels, count: int, *, transposed: bool = False) -> Labels:
    """Return ``new`` with each cluster under the name of the old cluster it shares most with.

    The matching has the smallest total symmetric difference between a new cluster and the old
    one whose name it takes.

    Args:
        new: (N,) clusters 0..count-1.
        old: (N,) of the same images.
        count: of clusters.
        transposed: apply the inverse of the matching, as the method's released code does. That
            is the same for swaps and wrong for every longer cycle.
    """
    together = np.zeros((count, count), np.int64)
    np.add.at(together, (new, old), 1)
    cost = together.sum(1, keepdims=True) + together.sum(0) - 2 * together
    names = linear_sum_assignment(cost)[1]  # of rows in order; ties fall the same way each time
    return (np.argsort(names) if transposed else names)[new]


def _spread(x: Tensor, count: int, rng: np.random.Generator) -> list[int]:
    """Return rows to start from: each likely in proportion to its squared distance (k-means++)."""
    chosen = [int(rng.integers(len(x)))]
    for _ in range(count - 1):
        weight = _squared(x, x[chosen]).amin(1).numpy()
        weight[chosen] = 0.0
        if not weight.any():  # nothing but copies of the chosen ones
            weight[:] = 1.0
            weight[chosen] = 0.0
        chosen.append(int(rng.choice(len(x), p=weight / weight.sum())))
    return chosen


def _lloyd(x: Tensor, means: Tensor, iterations: int) -> tuple[Tensor, float]:
    """Return clusters (N,) and the sum of squared distances to their means."""
    count = len(means)
    distance, cluster = _squared(x, means).min(1)
    for _ in range(iterations):
        members = torch.bincount(cluster, minlength=count)
        sums = torch.zeros_like(means).index_add_(0, cluster, x)
        means = sums / members.clamp(min=1)[:, None]
        empty = (members == 0).nonzero()[:, 0]
        means[empty] = x[distance.argsort(descending=True, stable=True)[: len(empty)]]
        before = cluster
        distance, cluster = _squared(x, means).min(1)
        if torch.equal(cluster, before):
            break
    return cluster, float(distance.sum())


def _squared(x: Tensor, means: Tensor) -> Tensor:
    """Return squared distances (N, K)."""
    inner = x @ means.T
    return (x.square().sum(1, keepdim=True) + means.square().sum(1) - 2 * inner).clamp(min=0)
