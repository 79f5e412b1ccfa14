"""Distances in the Poincare ball, computed from clipped vectors of the plane around its centre."""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protocols.methods._distances import squared_distances


def hyperbolic(
    rows: Tensor, others: Tensor | None = None, *, curvature: float, clip: float
) -> Tensor:
    """Return distances (A, B) in the ball between (A, D) ``rows`` and (B, D) ``others``.

    A vector u, cut to a length of at most ``clip``, stands for the point
    tanh(k |u|) / k * u / |u| of the ball, with k = sqrt(curvature). Without ``others`` the
    distances are those between all pairs of rows. As with Euclidean distances here, equal rows
    have a distance of exactly 0 and a gradient of 0.

    Args:
        rows: (A, D).
        others: (B, D).
        curvature: c, the ball's radius is 1 / sqrt(c).
        clip: largest length of a vector.

    Source: Ermolov et al., CVPR 2022, arXiv:2203.10833, section 3; clipping as in Guo et al.,
    CVPR 2022, arXiv:2107.11472.
    """
    k = math.sqrt(curvature)
    others = rows if others is None else others
    far, away = _radius(rows, k, clip)[:, None], _radius(others, k, clip)
    # With a and b the distances of two points from the centre, times k, and w the angle between:
    # sinh^2(d k / 2) = sinh^2((a - b) / 2) + sinh(a) sinh(b) sin^2(w / 2). All terms are positive,
    # so close points keep their digits; arcosh of an inner product loses them.
    chord = squared_distances(normalize(rows), normalize(others)) / 4  # sin^2 of half the angle
    squared = ((far - away) / 2).sinh().square() + far.sinh() * away.sinh() * chord
    apart = squared > 0  # the slope of the root at 0 is infinite, and infinity times 0 is NaN
    return 2 / k * (torch.where(apart, squared, 1.0).sqrt() * apart).asinh()


def _radius(rows: Tensor, k: float, clip: float) -> Tensor:
    """Return (A,) distances from the centre, times k."""
    squared = rows.square().sum(1)
    length = torch.where(squared > 0, squared, 1.0).sqrt() * (squared > 0)
    return 2 * k * length.clamp(max=clip)
