"""A method that does not train: fitted on pooled features, which no setting of it changes.

Comes in: a network, a fold's training and validation images. Goes out: the method's metrics. A
trial of such a method is one fit and one validation. The trunk sees the images of a fold once: a
worker keeps their pooled features for the next setting and the next method, known by the bytes of
the trunk's weights. Only training classes are kept; test images always go through the network.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.study.records import Metrics
from benchmark.training import evaluate
from benchmark.training.splits import Split
from protocols.network import Network
from protocols.protocol import Protocol, hw
from protocols.reached import Reads

Rows = NDArray[np.float32]
KEPT_BYTES = 1 << 30  # that a worker keeps: the folds of all but the largest sets


@dataclass
class _Kept:
    """Pooled features by what they were made of, those asked for last at the end."""

    rows: OrderedDict[str, Rows] = field(default_factory=OrderedDict)

    def get(self, key: str) -> Rows | None:
        """Return what is kept under ``key``."""
        if key in self.rows:
            self.rows.move_to_end(key)
        return self.rows.get(key)

    def put(self, key: str, rows: Rows) -> None:
        """Keep ``rows``; what was not asked for the longest goes where there is no room."""
        self.rows[key] = rows
        while self.rows and sum(kept.nbytes for kept in self.rows.values()) > KEPT_BYTES:
            self.rows.popitem(last=False)


_KEPT = _Kept()


@dataclass
class Fold:
    """A fold's images under one trunk.

    Attributes:
        network: trunk and method, on their device.
        train, validation: the fold's images.
        protocol: image pipeline, precision, evaluation batch.
        name: of trunk, weights and dataset.
        images: how many of the training images the method has asked for, each time counted.
    """

    network: Network
    train: Split
    validation: Split
    protocol: Protocol
    name: str
    images: int = 0

    def fit(self) -> None:
        """Let the method fit what it fits, from training images only."""
        self.network.method.prepare(self._probe)

    def validate(self) -> Metrics:
        """Return the method's metrics on the validation images."""
        network, device = self.network, str(next(self.network.parameters()).device)
        if self._reads_the_map():
            embeddings = evaluate.embed(network, self.validation, self.protocol)
        else:
            pooled = self._pooled(self.validation)
            embeddings = evaluate.embed_pooled(network, pooled, self.protocol)
        rule = network.method.ranked_by
        return evaluate.rank(embeddings, self.validation, ranking=rule, device=device).means()

    def _probe(self, view: str) -> Rows:
        # counted also where they are kept: which worker keeps them is chance
        self.images += len(self.train)
        if view == "vector":
            return self._pooled(self.train).copy()  # the method may write to it
        return evaluate.extract(self.network, self.train, self.protocol, view)

    def _pooled(self, split: Split) -> Rows:
        """Return (n, C) the trunk's pooled features of a split."""
        key = self._key(split)
        rows = _KEPT.get(key)
        if rows is None:
            rows = evaluate.extract(self.network, split, self.protocol, "vector")
            _KEPT.put(key, rows)
        return rows

    def _key(self, split: Split) -> str:
        """Return a digest of all that the pooled features depend on."""
        network, protocol = self.network, self.protocol
        found = hashlib.sha256(split.index.tobytes())
        for name, value in network.trunk.state_dict().items():
            found.update(f"{name} {tuple(value.shape)} ".encode())
            found.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        image = (protocol.image, protocol.precision, protocol.eval_batch, protocol.threads_per_job)
        device = next(network.parameters()).device
        found.update(repr((self.name, network.method.wants, image, str(device))).encode())
        return found.hexdigest()

    def _reads_the_map(self) -> bool:
        """Return whether the method embeds from more than the pooled vector, by watching it."""
        network, device = self.network.eval(), next(self.network.parameters()).device
        pixels = torch.zeros(2, 3, *hw(self.protocol.image.crop_px), device=device)
        with torch.no_grad():
            features = network.trunk(network.trunk.scale(pixels))
            with Reads() as reads:
                network.method(features)
        network.train()
        maps = (features.map, *features.stages)
        return any(each.untyped_storage().data_ptr() in reads.places for each in maps)
