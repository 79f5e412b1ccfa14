"""Embed a split and score it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.training.pictures import eval_images
from benchmark.training.splits import Split
from protocols import metrics, verification
from protocols.contract import views_from
from protocols.method import Features
from protocols.network import Network
from protocols.protocol import Protocol
from protocols.ranking import Ranking

Forward = Callable[[Tensor], Tensor]


def embed(
    network: Network, split: Split, protocol: Protocol, view: str = "embedding"
) -> NDArray[np.float32]:
    """Return (n, D) rows of an eval view in the split's order, in eval mode, not normalised."""
    return _extract(network, split, protocol, lambda pixels: network(pixels)[view])


def extract(network: Network, split: Split, protocol: Protocol, view: str) -> NDArray[np.float32]:
    """Return (n, d) rows of a view, or of the trunk's pooled feature for ``"vector"``."""

    def forward(pixels: Tensor) -> Tensor:
        if view == "vector":
            features: Features = network.trunk(network.trunk.scale(pixels))
            return features.vector
        views: dict[str, Tensor] = network(pixels)
        return views[view]

    return _extract(network, split, protocol, forward)


def embed_pooled(
    network: Network, pooled: NDArray[np.float32], protocol: Protocol
) -> NDArray[np.float32]:
    """Return :func:`embed` of images by the trunk's pooled features of them (n, C).

    The same bits, for a method that reads nothing else: batches are of the same images.
    """
    device = next(iter(network.parameters())).device
    mode, size = network.training, protocol.eval_batch
    network.eval()
    rows = []
    with torch.inference_mode(), autocast(protocol, device):
        for start in range(0, len(pooled), size):
            vector = torch.tensor(pooled[start : start + size]).to(device)  # a copy
            nothing = vector.new_empty(len(vector), vector.shape[1], 0, 0)
            seen = views_from(network.method, Features(nothing, vector))
            rows.append(seen["embedding"].float())
        found = torch.cat(rows).cpu()
    network.train(mode)
    return found.numpy()


def score(
    network: Network, split: Split, protocol: Protocol
) -> tuple[metrics.PerQuery, NDArray[np.float32]]:
    """Return the per-query metrics of a split searched against itself, and its embeddings."""
    embeddings = embed(network, split, protocol)
    device = str(next(network.parameters()).device)
    return rank(embeddings, split, ranking=network.method.ranked_by, device=device), embeddings


def rank(
    embeddings: NDArray[np.float32],
    split: Split,
    *,
    ranking: Ranking,
    sheets: int = 1,
    device: str = "cpu",
) -> metrics.PerQuery:
    """Return the metrics of a split's queries; neighbours are positions in the split.

    ``sheets`` says how many embeddings of a hyperboloid a row holds side by side.
    """
    if split.query is None:
        return metrics.per_query(
            embeddings,
            split.labels,
            ranking=ranking,
            sheets=sheets,
            recall_at=split.recall_at,
            device=device,
        )
    query, gallery = split.query, np.flatnonzero(~split.query)
    found = metrics.per_query(
        embeddings[query],
        split.labels[query],
        gallery=(embeddings[gallery], split.labels[gallery]),
        ranking=ranking,
        sheets=sheets,
        recall_at=split.recall_at,
        device=device,
    )
    return replace(found, neighbours=gallery[found.neighbours])


def verify_pairs(
    embeddings: NDArray[np.float32], split: Split, *, ranking: Ranking, device: str = "cpu"
) -> dict[str, float]:
    """Return what one threshold does for a split's pairs, see :mod:`protocols.verification`.

    Nothing on a hyperboloid: these are measures of angles and of Euclidean distances.
    """
    if ranking == "hyperboloid":
        return {}
    normalize = ranking == "angle"
    if split.query is None:
        return verification.verification(
            embeddings, split.labels, normalize=normalize, device=device
        )
    query = split.query
    return verification.verification(
        embeddings[query],
        split.labels[query],
        gallery=(embeddings[~query], split.labels[~query]),
        normalize=normalize,
        device=device,
    )


def autocast(protocol: Protocol, device: torch.device, *, cached: bool = True) -> torch.autocast:
    """Return the protocol's precision as a context; fp32 leaves everything as it is.

    Without ``cached`` weights are cast anew where they are used: a cache would outlive a
    recorded step.
    """
    enabled = protocol.precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=cached)


def _extract(
    network: Network, split: Split, protocol: Protocol, forward: Forward
) -> NDArray[np.float32]:
    device = next(iter(network.parameters())).device
    mode = network.training
    network.eval()
    with torch.inference_mode(), autocast(protocol, device):
        rows = [forward(images).float() for images in eval_images(split, protocol, device)]
        found = torch.cat(rows).cpu()  # the only wait for a device
    network.train(mode)
    return found.numpy()
