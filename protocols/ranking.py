"""The named rules by which embeddings are compared: no code of a method comes near test images.

* ``angle``: the cosine, rows scaled to unit length.
* ``distance``: the Euclidean distance of the rows as they are.
* ``hyperboloid``: rows (X, x0) are points of one sheet x0^2 - |X|^2 = 1 / c, the last number
  being x0. Two are as near as X . Y - x0 y0 = -cosh(k d) / c is large, with k = sqrt(c) and d
  their hyperbolic distance, so the order is that of d.

Source of the last: Ratcliffe, Foundations of Hyperbolic Manifolds, section 3.2.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from protocols.errors import InvalidInputError

Ranking = Literal["angle", "distance", "hyperboloid"]
RANKINGS: tuple[Ranking, ...] = get_args(Ranking)


def reflected(rows: NDArray[np.float32], sheets: int = 1) -> NDArray[np.float32]:
    """Return rows whose products with the given ones are the similarities on hyperboloids.

    Args:
        rows: (N, D) points; of several sheets side by side, whose similarities are added.
        sheets: how many, of equal width.

    Raises:
        InvalidInputError: rows that do not divide into sheets of two numbers or more.
    """
    width, rest = divmod(rows.shape[1], sheets)
    if rest or width < 2:
        raise InvalidInputError(
            f"embeddings of {rows.shape[1]} numbers: expected {sheets} point(s) of a hyperboloid, "
            "of two numbers or more each"
        )
    found = rows.copy()
    found[:, width - 1 :: width] *= -1
    return found


def centred(
    queries: NDArray[np.float32], items: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return queries and items moved by one vector that brings them nearer to the origin.

    Distances do not change, but far from the origin q.x and |x|^2 are much larger than their
    difference and rounding eats it. A coordinate is moved only if all of its values lie within
    a factor of two of one another: then also of their middle, and float32 subtracts without
    error (Sterbenz' lemma; Higham, Accuracy and Stability of Numerical Algorithms, theorem
    2.5), so equal distances stay equal. Any other coordinate is off centre by no more than
    three times the half of its range, which costs nothing that matters.
    """
    both = (queries,) if queries is items else (queries, items)
    low = np.min([rows.min(axis=0) for rows in both], axis=0)
    high = np.max([rows.max(axis=0) for rows in both], axis=0)
    small, large = np.minimum(abs(low), abs(high)), np.maximum(abs(low), abs(high))
    far = (np.sign(low) == np.sign(high)) & (large <= 2 * small) & (small > 0)
    if not far.any():
        return queries, items
    middle = low + (high - low) / 2
    moved = [rows - np.where(far, middle, np.float32(0)) for rows in both]
    return moved[0], moved[-1]
