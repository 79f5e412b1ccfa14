"""A made split and a training on it: what tests of training steps start from, without a job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch

from benchmark.study.pixels import PixelStore, ReadFile
from benchmark.training.placed import placed
from benchmark.training.serving import stage_channels
from benchmark.training.splits import Split
from benchmark.training.steps import Training
from protocols import batches
from protocols.discovery import load
from protocols.method import Method, TrainSpec
from protocols.network import Network
from protocols.protocol import Protocol
from protocols.recipe import Recipe

BATCH, EPOCH = 16, 10
TOY: Protocol = load("protocol", "toy")


def split(sizes: np.ndarray, each: int = 8, first: int = 0) -> Split:
    """Return images of ``sizes`` (n, 2), ``each`` of a class; a class is a tint and a texture."""
    count = len(sizes)
    labels = first + np.arange(count) // each
    rng = np.random.default_rng(first)
    parts = []
    for (height, width), label in zip(sizes.tolist(), labels.tolist(), strict=True):
        tint = np.random.default_rng(label).integers(40, 200, 3)
        noise = rng.integers(0, 56, (height, width, 3))
        parts.append((tint + noise).astype(np.uint8).ravel())
    starts = np.cumsum([0, *map(len, parts[:-1])])
    with NamedTemporaryFile() as file:  # open for reading, it outlives its name
        file.write(b"".join(map(bytes, parts)))
        file.flush()
        store = PixelStore(ReadFile(Path(file.name)), sizes, starts)
    return Split(store, np.arange(count), labels)


def square(side: int, classes: int = 20, each: int = 8, first: int = 0) -> Split:
    """Return square images."""
    return split(np.full((classes * each, 2), side), each, first)


def training(
    train: Split,
    method: str | type[Method],
    *,
    recipe: Recipe | None = None,
    protocol: Protocol = TOY,
    trunk: str = "tiny",
    steps: int = 200,
    batch: int = BATCH,
    embedding: int = 16,
    device: str = "cpu",
    **settings: Any,
) -> Training:
    """Return a training from fixed seeds; ``method`` is a name or a class."""
    cls: type[Method] = load("method", method) if isinstance(method, str) else method
    pace = replace(protocol.pace, steps_per_epoch=EPOCH, max_steps=steps)
    protocol = replace(protocol, pace=pace, batch_size=batch, embedding_size=embedding)
    labels = np.unique(train.labels, return_inverse=True)[1]
    torch.manual_seed(0)
    body = load("trunk", trunk).build()
    body.honour(cls.wants, cls.__name__)
    spec = TrainSpec(
        labels=labels,
        classes=int(labels.max()) + 1,
        channels=body.channels,
        embedding_size=embedding,
        folds=2,
        batch_size=batch,
        steps=steps,
        steps_per_epoch=EPOCH,
        stage_channels=stage_channels(body, protocol),
        images_per_class=4 if cls.draws == "pairs" else 1,
    )
    recipe = recipe or replace(load("recipe", "adam"), lr=1e-3)
    network = Network(body, cls(spec, **settings), recipe.batch_norm)
    network = placed(network, torch.device(device), protocol.precision)
    sources = np.random.default_rng(1), np.random.default_rng(5)
    return Training(network, train, labels, protocol, recipe, *sources)


def draws(made: Training):
    """Return batches without end, from a fixed seed."""
    spec = made.network.method.spec
    rng = np.random.default_rng(2)
    return batches.balanced(made.labels, spec.batch_size, spec.images_per_class, rng)
