"""The weights of a fold model that embed, and nothing else, as the bytes of one file.

Kept is what the network's own forward pass reads in eval mode: trunk, head, statistics of
BatchNorm layers. Heads, proxies and teachers that only training needs stay behind.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.study import tensors
from benchmark.study.datasets import identity
from benchmark.study.folder import CellKey
from benchmark.study.records import JobRecord
from protocols.network import Network
from protocols.protocol import Extent, Protocol, hw
from protocols.reached import Reads

SCHEMA = 1
PROOF = 16  # first test images whose embeddings travel with the weights
STATE, LABELS, PROVEN = "state.", "labels", "proof"


def embedding_state(network: Network, extent: Extent) -> dict[str, Tensor]:
    """Return the entries of the state dict that an embedding of ``extent`` px images reads.

    Found by watching one forward pass in eval mode, so no method declares it or forgets to:
    parameters, and buffers too, which autograd would not meet.
    """
    mode, device = network.training, next(network.parameters()).device
    network.eval()
    pixels = torch.zeros(2, 3, *hw(extent), device=device)
    with torch.no_grad(), Reads() as reads:
        network(pixels.contiguous(memory_format=torch.channels_last))
    network.train(mode)
    return {
        name: value
        for name, value in network.state_dict().items()
        if value.numel() and value.untyped_storage().data_ptr() in reads.places
    }


def pack(
    network: Network,
    cell: CellKey,
    protocol: Protocol,
    record: JobRecord,
    embeddings: NDArray[np.float32],
) -> bytes:
    """Return the file of a trained fold model; equal weights give equal bytes.

    Args:
        network: with its best weights.
        cell: what it was trained for.
        protocol: as it holds on the cell's dataset.
        record: of its training: setting, seed, fold, step.
        embeddings: (N, D) of the test images, as this fold gives them to the joined embedding.
    """
    method, spec = network.method, asdict(network.method.spec)
    labels = np.asarray(spec.pop("labels"), np.int32)
    if not spec["stage_channels"]:  # most methods read none: their files stay what they were
        del spec["stage_channels"]
    names, groups = spec.pop("names"), spec.pop("groups")
    spec |= {} if names is None else {"names": list(names)}
    spec |= {} if groups is None else {"groups": groups.tolist()}
    facts = {
        "schema": SCHEMA,
        "cell": cell.id,
        "dataset": identity(cell.dataset),
        "trunk": cell.trunk,
        "recipe": cell.recipe,
        "method": cell.method,
        "protocol": f"{protocol.name} v{protocol.version}",
        "settings": record.settings,
        "seed": record.number,
        "fold": record.fold,
        "step": record.best_step,
        "candidate": record.candidate,
        "image": asdict(protocol.image),
        "scale": asdict(network.trunk.scale),
        "batch_norm": network.batch_norm,
        "precision": protocol.precision,
        "threads": protocol.threads_per_job,
        "eval_batch": protocol.eval_batch,
        "spec": spec,
        "view": method.joined,
        "normalize": method.ranked_by == "angle",
        "embeddings_sha256": hashlib.sha256(embeddings.tobytes()).hexdigest(),
    }
    if method.ranked_by == "hyperboloid":  # files of the older rules stay as they were
        facts["ranking"] = method.ranked_by
    state = embedding_state(network, protocol.image.crop_px)
    arrays = {f"{STATE}{name}": _plain(value) for name, value in state.items()}
    return tensors.pack({**arrays, LABELS: labels, PROVEN: embeddings[:PROOF]}, facts)


def _plain(value: Tensor) -> NDArray[Any]:
    if value.dtype == torch.bfloat16:  # numpy has no such type; float32 holds the same values
        value = value.float()
    found: NDArray[Any] = value.detach().cpu().contiguous().numpy()
    return found
