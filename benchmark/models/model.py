"""A model from a file: pixels in, embeddings out, whatever program wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.models import description as descriptions
from benchmark.models import networks, onnx_files
from benchmark.models.description import FORMATS, Description
from benchmark.models.images import Item, cropped, readable
from benchmark.models.networks import FoldWeights, Joined
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError


class Model(Interface):
    """Turns images into embeddings."""

    @property
    def description(self) -> Description:
        """Return what goes in and what comes out."""
        ...

    def embed(self, pixels: Tensor) -> NDArray[np.float32]:
        """Return (B, D) rows of (B, 3, H, W) float32 RGB pixels in 0..255."""
        ...


def load(path: Path, registry: Registry) -> Model:
    """Return the model in the file at ``path``.

    Raises:
        InvalidInputError: no such file, no description beside it, or an unknown ending.
        StoreError: the file is damaged, or was made with other code.
    """
    if path.suffix not in FORMATS:
        raise InvalidInputError(f"model {path}: expected a file that ends in {', '.join(FORMATS)}")
    told = descriptions.read(path)
    if path.suffix == ".onnx":
        return onnx_files.Session(path, told)
    if path.suffix == ".pt2":
        return _Program(told, _program(path))
    check_code(told.origin, registry)
    folds, joined = networks.unpack(path.read_bytes(), str(path))
    return from_weights(folds, joined, told, registry)


def from_weights(
    folds: Sequence[FoldWeights], joined: bool, told: Description, registry: Registry
) -> FoldModel:
    """Return the model that fold models make together, or that one is alone."""
    made = [networks.rebuild(fold, registry) for fold in folds]
    facts = folds[0].facts
    module = Joined(made, facts, joined=joined).eval()
    return FoldModel(told, module, str(facts["precision"]))


@dataclass(frozen=True)
class FoldModel:
    """Fold models run by this program's own code, joined as a test joins them."""

    description: Description
    module: Joined
    precision: str

    def embed(self, pixels: Tensor) -> NDArray[np.float32]:
        """Return (B, D) rows, in the precision that the model was measured in."""
        half = torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16")
        with torch.inference_mode(), half:
            parts = [part.numpy() for part in self.module.parts(pixels)]
        return self.module.join(parts)


@dataclass(frozen=True)
class _Program:
    """A program of ``torch.export``, which needs no code of this one."""

    description: Description
    program: Any

    def embed(self, pixels: Tensor) -> NDArray[np.float32]:
        """Return (B, D) rows."""
        with torch.inference_mode():
            rows: NDArray[np.float32] = self.program(pixels.contiguous()).numpy()
        return rows


def embed_items(model: Model, items: Sequence[Item]) -> NDArray[np.float32]:
    """Return (N, D) embeddings of images in their order.

    Raises:
        DataError: images that cannot be read, all of them.
    """
    told = model.description
    return embed_all(model, (cropped(pixels, told) for pixels in readable(items)))


def embed_all(model: Model, crops: Iterable[Tensor]) -> NDArray[np.float32]:
    """Return (N, D) embeddings of (1, 3, H, W) crops, as many at once as the model says."""
    rows, waiting = [], list[Tensor]()
    for one in crops:
        waiting.append(one)
        if len(waiting) == model.description.batch:
            rows.append(model.embed(torch.cat(waiting)))
            waiting.clear()
    if waiting:
        rows.append(model.embed(torch.cat(waiting)))
    return np.concatenate(rows)


def check_code(origin: dict[str, Any], registry: Registry) -> None:
    """Raise StoreError unless method and trunk are the code that ``origin`` names, if any."""
    for kind in ("method", "trunk"):
        name, wanted = str(origin.get(kind, "")).partition("+")[0], origin.get(f"{kind}_code")
        if wanted and registry.code_digest(kind, name) != wanted:
            raise StoreError(
                f"the code of {kind} {name!r} is not that of the model any more. Use the version "
                "that trained it, or a model exported as .pt2 or .onnx, which needs no code"
            )


def _program(path: Path) -> Any:
    try:
        return torch.export.load(path).module()
    # Damaged archives fail in a dozen ways, from zip errors to missing keys.
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise StoreError(f"{path}: not a program of torch.export ({reason})") from error
