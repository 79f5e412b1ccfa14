"""Fold models made again from their weights, and the embedding they give alone or joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.linalg import vector_norm

from benchmark.models.description import extent_of, scaling_of
from benchmark.study import tensors
from benchmark.training.kept import LABELS, PROVEN, SCHEMA, STATE, embedding_state
from protocols import metrics
from protocols.discovery import Registry
from protocols.errors import StoreError
from protocols.method import Method, TrainSpec
from protocols.network import Network
from protocols.recipe_search import of_method
from protocols.trunk import Trunk

SMALLEST = 1e-12  # length that a row is divided by at least, as where embeddings are joined


@dataclass(frozen=True)
class FoldWeights:
    """The weights of one fold model with all that is needed to make it again.

    Attributes:
        state: entries of its state dict that an embedding reads.
        labels: (N,) of the images it was trained on, which its method is built with.
        proof: (n, D) embeddings of the first test images, as they go into the joined one.
        facts: what :func:`benchmark.training.kept.pack` wrote beside them.
    """

    state: dict[str, NDArray[Any]]
    labels: NDArray[np.int64]
    proof: NDArray[np.float32]
    facts: dict[str, Any]


def unpacked(content: bytes, name: str) -> FoldWeights:
    """Return the weights in a kept file's bytes.

    Raises:
        StoreError: not such a file, or one of another version.
    """
    arrays, facts = tensors.unpack(content, name)
    return _weights(arrays, facts, "", name)


def pack(folds: Sequence[FoldWeights], joined: bool) -> bytes:
    """Return several fold models as the bytes of one file."""
    arrays: tensors.Arrays = {}
    for number, fold in enumerate(folds):
        parts = {f"{STATE}{name}": values for name, values in fold.state.items()}
        parts |= {LABELS: fold.labels.astype(np.int32), PROVEN: fold.proof}
        arrays |= {f"{_prefix(number)}{name}": values for name, values in parts.items()}
    return tensors.pack(arrays, {"joined": joined, "folds": [fold.facts for fold in folds]})


def unpack(content: bytes, name: str) -> tuple[list[FoldWeights], bool]:
    """Return what :func:`pack` took.

    Raises:
        StoreError: not such a file.
    """
    arrays, note = tensors.unpack(content, name)
    if not isinstance(note, dict) or not {"joined", "folds"} <= note.keys():
        raise StoreError(f"{name}: weights of one fold as a study keeps them; export them first")
    folds = [
        _weights(arrays, facts, _prefix(number), name) for number, facts in enumerate(note["folds"])
    ]
    return folds, bool(note["joined"])


def rebuild(fold: FoldWeights, registry: Registry) -> Network:
    """Return the fold model in eval mode, on the CPU.

    Raises:
        StoreError: the code of its method or trunk asks for other weights by now.
    """
    facts = fold.facts
    plain = facts["spec"]
    plain = {**plain, "stage_channels": tuple(plain.get("stage_channels", ()))}
    if "names" in plain:
        plain["names"] = tuple(plain["names"])
    if "groups" in plain:
        plain["groups"] = np.array(plain["groups"], np.int64)
    spec = TrainSpec(labels=fold.labels, **plain)
    method: type[Method] = registry.load("method", facts["method"])
    with torch.random.fork_rng(devices=[]):  # random weights, all of which are replaced
        trunk: Trunk = registry.load("trunk", facts["trunk"].partition("+")[0]).build(None)
        trunk.honour(method.wants, facts["method"])
        network = Network(trunk, method(spec, **of_method(facts["settings"])), facts["batch_norm"])
        network.teacher = None  # what embeds has none
    vars(trunk)["scale"] = scaling_of(facts["scale"])  # of its own weights, not of random ones
    own = network.state_dict()
    odd = [
        name
        for name, value in fold.state.items()
        if name not in own or tuple(own[name].shape) != value.shape
    ]
    if not odd:
        state = {name: torch.from_numpy(value.copy()) for name, value in fold.state.items()}
        network.load_state_dict(state, strict=False)
        read = embedding_state(network, extent_of(facts["image"]["crop_px"]))
        odd = [name for name in read if name not in fold.state]
    if odd:
        raise StoreError(
            f"the code of method {facts['method']!r} or trunk {facts['trunk']!r} is not that of "
            f"these weights any more: {odd[0]} differs. Use the version that trained them"
        )
    return network.to(memory_format=torch.channels_last).eval()


class Joined(nn.Module):
    """One model of pixels to embeddings: fold models joined as a test joins them, or one alone.

    Args:
        networks: the fold models.
        facts: of the first of them; what matters here is the same for all.
        joined: rows are unit parts side by side where the method compares by angle, raw parts
            otherwise; without it one fold's embedding as it is.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, networks: Sequence[Network], facts: dict[str, Any], *, joined: bool) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        scale = networks[0].trunk.scale
        self.factor, self.bgr = scale.factor, scale.bgr
        self.view = facts["view"] if joined else "embedding"
        self.unit = joined and bool(facts["normalize"])
        for name, values in (("mean", scale.mean), ("std", scale.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, D) float32 of (B, 3, H, W) float32 RGB pixels in 0..255."""
        parts = self.parts(pixels)
        if self.unit:
            parts = [
                part / vector_norm(part, dim=1, keepdim=True).clamp(min=SMALLEST) for part in parts
            ]
        return torch.cat(parts, dim=1)

    def parts(self, pixels: Tensor) -> list[Tensor]:
        """Return each fold model's own (B, d) float32 rows, not normalised."""
        seen = pixels.flip(1) if self.bgr else pixels
        scaled = (seen * self.factor - self.mean) / self.std
        return [network.method(network.trunk(scaled))[self.view].float() for network in self.folds]

    def join(self, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return rows joined by the very function that a test uses, so with the same bits."""
        return metrics.concatenate(list(parts), normalize=self.unit)

    @property
    def folds(self) -> list[Network]:
        """Return the fold models."""
        return [network for network in self.networks if isinstance(network, Network)]


def _prefix(number: int) -> str:
    return f"fold-{number}."


def _weights(arrays: tensors.Arrays, facts: dict[str, Any], prefix: str, name: str) -> FoldWeights:
    own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    version = facts.get("schema") if isinstance(facts, dict) else None
    if version != SCHEMA or not {LABELS, PROVEN} <= own.keys():
        raise StoreError(f"{name}: weights in form {version}, expected form {SCHEMA}")
    return FoldWeights(
        state={k.removeprefix(STATE): v for k, v in own.items() if k.startswith(STATE)},
        labels=own[LABELS].astype(np.int64),
        proof=own[PROVEN].astype(np.float32),
        facts=facts,
    )
