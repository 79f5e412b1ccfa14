"""The small task that the conformance checks put a trunk on: made images, random weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from protocols.method import Features
from protocols.trunk import Trunk
from protocols.weights import Weights

Build = Callable[..., Trunk]
SIDES = (64, 224, 299)  # px of the images: the first that the trunk takes
ROWS = 4
STEPS = 2  # of training: what starts at zero has moved then


@dataclass(frozen=True)
class Candidate:
    """A trunk to be checked.

    Attributes:
        build: ``build(weights)`` as its file has it, its argument bound.
        inner: likewise of the trunk that it holds, None where it holds none.
        random_start: the file says ``RANDOM_START = True``.
    """

    build: Build
    inner: Callable[[Weights], Trunk] | None = None
    random_start: bool = False


@contextmanager
def seeded(number: int = 0) -> Iterator[None]:
    """Within this, torch's generator starts from ``number``; all generators are put back."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(number)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def made(candidate: Candidate) -> Trunk:
    """Return the trunk at random, always the same."""
    with seeded():
        return candidate.build(None)


def side_of(trunk: Trunk) -> int:
    """Return the first of :data:`SIDES` that the trunk takes."""
    mode, refusal = trunk.training, ""
    trunk.eval()
    for side in SIDES:
        try:
            with torch.no_grad():
                trunk(trunk.scale(pixels_of(side)[:1]))
        # Whatever a network raises on a size that it was not made for is its answer.
        except Exception as error:
            refusal = refusal or str(error)
            continue
        trunk.train(mode)
        return side
    raise AssertionError(f"it takes images of none of {SIDES} px: {refusal}")


def images(trunk: Trunk) -> Tensor:
    """Return (4, 3, S, S) scaled images, always the same."""
    return trunk.scale(pixels_of(side_of(trunk)))


def seen(trunk: Trunk) -> Features:
    """Return the trunk's features of the made images, in the mode that it is in."""
    with torch.no_grad():
        features: Features = trunk(images(trunk))
    return features


def settled(trunk: Trunk) -> Trunk:
    """Return the trunk in eval mode with statistics of the made images where BatchNorm is live."""
    norms = [m for m in trunk.train().modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        seen(trunk)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return trunk.eval()


def train(trunk: Trunk, steps: int) -> None:
    """Take steps that make features small, in training mode."""
    trunk.train()
    learns = [p for p in trunk.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learns, lr=1e-3) if learns else None
    shown = images(trunk)
    for _ in range(steps):
        value = value_of(trunk(shown))
        if optimizer is not None:
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learns, 1.0)
            optimizer.step()


def pixels_of(side: int) -> Tensor:
    """Return (4, 3, side, side) pixels in 0..255, always the same: patches under noise."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(ROWS, 3, 8, 8, generator=generator)
    fine = torch.rand(ROWS, 3, side, side, generator=generator)
    large = torch.nn.functional.interpolate(coarse, size=side, mode="nearest")
    return 255 * (0.7 * large + 0.3 * fine)


def value_of(features: Features) -> Tensor:
    """Return a () tensor that depends on every number of map and vector."""
    return features.map.float().square().mean() + features.vector.float().square().mean()


def apart_of(a: Tensor, b: Tensor) -> float:
    """Return how far ``a`` is from ``b``, as a share of the length of ``b``."""
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30))
