"""The first settings of a search: points that fill its space evenly, drawn from the cell's id.

Source: Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 14, 1998.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats.qmc import Sobol

from benchmark.study.seeds import seed
from protocols.space import Settings, Space

BLOCK = 64  # points drawn at a time: a power of 2, as Sobol sequences need; it moves no point

Points = NDArray[np.float64]


def points(cell: str, dimensions: int) -> Iterator[Points]:
    """Yield (BLOCK, dimensions) shares in [0, 1) of a scrambled Sobol sequence, block by block.

    The cell's id scrambles it, so the same cell has the same points each time.
    """
    rng = np.random.default_rng(seed(cell, "search", "spread"))
    sequence = Sobol(dimensions, scramble=True, seed=rng)
    while True:
        yield sequence.random(BLOCK)


def spread(cell: str, space: Space) -> Iterator[Settings]:
    """Yield the settings at those points."""
    for block in points(cell, len(space)):
        yield from (setting(space, point) for point in block)


def setting(space: Space, shares: Points) -> Settings:
    """Return the setting at ``shares`` (dimensions,) of the ranges, in the order of ``space``."""
    pairs = zip(space.items(), shares.tolist(), strict=True)
    return {name: parameter.at(share) for (name, parameter), share in pairs}
