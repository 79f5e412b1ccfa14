"""What a method must keep of how its embeddings are compared."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.method import Method
from protocols.ranking import reflected
from protocols.space import declared, defaults
from protocols.toy_task import (
    CHANNELS,
    SIDE,
    build,
    corners,
    keeps_random_state,
    views_of,
)

POINTS = 200
OFF = (
    1e-3  # error of 1 / c, relative to x0^2, and of distances, relative to the largest, in float32
)
Points = NDArray[np.float32]


@keeps_random_state
def check_ranks_by_a_rule(method: type[Method]) -> None:
    """Its rule of comparison is a named one; on a hyperboloid the order is that of distances."""
    every = [build(method, s) for s in (defaults(declared(method)), *corners(method))]
    for built in every:
        if built.ranked_by == "hyperboloid":
            _check_order(_points(built))


def _points(built: Method) -> Points:
    """Return (200, D) eval embeddings of made features, small ones and large ones."""
    generator = torch.Generator().manual_seed(7)
    maps = torch.rand(POINTS, CHANNELS, SIDE, SIDE, generator=generator)
    maps = maps * torch.logspace(-1, 1, POINTS)[:, None, None, None]
    with torch.no_grad():
        found: Points = views_of(built.eval(), maps)["embedding"].float().numpy()
    built.train()
    return found


def _check_order(points: Points) -> None:
    """Compare the order of similarities with that of distances, made from X alone in float64."""
    wide = points.astype(np.float64)
    squared, height = (wide[:, :-1] ** 2).sum(1), wide[:, -1]
    inverse = height**2 - squared  # 1 / c
    usual = float(np.median(inverse))
    off = np.abs(inverse - usual) / np.maximum(height**2, squared)
    worst = int(off.argmax())
    assert usual > 0, f"on a hyperboloid x0^2 - |X|^2 is above 0, met {usual:.3g}"
    assert height.min() > 0, f"on a hyperboloid x0 is above 0, met {height.min():.3g}"
    assert off[worst] <= OFF, (
        f"x0^2 - |X|^2 is {inverse[worst]:.6g} for one point and {usual:.6g} for most: an "
        "embedding is a point of one hyperboloid, whose last number is x0"
    )
    lifted = np.sqrt(usual + squared)
    cosh = (np.outer(lifted, lifted) - wide[:, :-1] @ wide[:, :-1].T) / usual
    distance = np.arccosh(np.maximum(cosh, 1.0)) * np.sqrt(usual)
    assert distance.max() > 0, "on a hyperboloid all embeddings are one point"
    similar = reflected(points).astype(np.float64) @ wide.T
    for row, apart in zip(similar, distance, strict=True):
        steps = np.diff(apart[np.argsort(-row, kind="stable")])
        assert steps.min() >= -OFF * distance.max(), (
            "the order of similarities is not that of hyperbolic distances"
        )
