"""Class-balanced batches of image positions, endless, from one generator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from protocols.errors import InvalidInputError


def balanced(
    labels: NDArray[np.int64], batch_size: int, per_class: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield (batch_size,) positions: batch_size / per_class distinct classes, per_class of each.

    One pass shuffles all classes and cuts them into batches; classes that do not fill a batch
    wait for the next pass, so within a pass no class comes twice. A class with fewer than
    ``per_class`` images shows each of them equally often, up to one.

    Args:
        labels: (N,) class of each position.
        batch_size: a multiple of ``per_class``.
        per_class: images of each class in a batch.
        rng: the only source of randomness.

    Raises:
        InvalidInputError: sizes that do not divide, or fewer classes than a batch needs.

    Source: Hermans, Beyer and Leibe 2017 (PK sampling), tail rule as in their code.
    """
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    wide, rest = divmod(batch_size, per_class)
    if rest or wide < 1:
        raise InvalidInputError(f"batch of {batch_size} with {per_class} images a class: no fit")
    if len(members) < wide:
        raise InvalidInputError(
            f"{len(members)} classes: a batch of {batch_size} with {per_class} images a class "
            f"needs {wide}. {_KEYS}"
        )
    while True:
        order = rng.permutation(len(members))
        for start in range(0, len(order) - wide + 1, wide):
            chosen = order[start : start + wide]
            yield np.concatenate([_draw(members[c], per_class, rng) for c in chosen])


def m_per_class(
    labels: NDArray[np.int64], batch_size: int, per_class: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield batches as the Reality Check's code cuts them.

    One pass lists all classes in random order, ``per_class`` images of each; passes follow one
    another and are cut into consecutive batches. So a batch can straddle two passes and hold a
    class twice. A class with too few images is drawn with replacement.

    Args:
        labels: (N,) class of each position.
        batch_size: a multiple of ``per_class``.
        per_class: images of each class in a pass.
        rng: the only source of randomness.

    Raises:
        InvalidInputError: sizes that do not divide, or a pass smaller than a batch.

    Source: Musgrave et al. 2020, as its code runs it.
    """
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    if batch_size % per_class or len(members) * per_class < batch_size:
        raise InvalidInputError(
            f"batch of {batch_size} from {len(members)} classes, {per_class} images each: the "
            f"batch must be a multiple of the images and no larger than a pass. {_KEYS}"
        )
    waiting = np.empty(0, np.int64)
    while True:
        order = rng.permutation(len(members))
        listed = [
            rng.choice(members[c], per_class, replace=len(members[c]) < per_class) for c in order
        ]
        waiting = np.concatenate([waiting, *listed])
        while len(waiting) >= batch_size:
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]


_KEYS = (
    "Choose a smaller batch_size or more images a class: pair_images_per_class for methods that "
    "draw pairs, class_images_per_class for those that draw classes"
)
SAMPLERS = {"balanced": balanced, "m_per_class": m_per_class}


def _draw(members: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``count`` of ``members``, without repeats where there are enough."""
    copies = -(-count // len(members))
    return np.concatenate([rng.permutation(members) for _ in range(copies)])[:count]
