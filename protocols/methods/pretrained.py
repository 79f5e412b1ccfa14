"""The pretrained trunk's pooled features, reduced by PCA: the paper's row without training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from protocols.method import Features, Method, Probe, Term, TrainSpec


class Pretrained(Method):
    """Standardise, project on the leading principal axes, rank by angle.

    Axes come from the fold's training images only. A fold model is scored on as many as the
    protocol's embedding has (128 of the paper's separated columns). Joined are its leading axes
    in the concatenated embedding's number (512 with four folds), so the joined cosine is the mean
    of four that differ only in the images their axes were fitted on.
    """

    paper = "arXiv:2003.08505"
    paper_name = "pretrained"
    trains = False
    joined = "wide"

    def make_head(self, spec: TrainSpec) -> nn.Module:
        """Return the projection, which has nothing to train."""
        return Principal(spec.channels, spec.embedding_size * spec.folds)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return no terms: nothing is minimised."""
        return []

    def prepare(self, probe: Probe) -> None:
        """Fit mean, scale and axes on the training images' pooled features."""
        assert isinstance(self.head, Principal)
        self.head.fit(torch.tensor(probe("vector")))

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return the projected vector, its leading axes as the embedding."""
        wide = self.head(features.vector.float())
        return {"embedding": wide[:, : self.spec.embedding_size], "wide": wide}


class Principal(nn.Module):
    """Standardised features on their principal axes, at most as many as there are channels."""

    mean: Tensor
    axes: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("axes", torch.eye(channels, min(size, channels)))

    def fit(self, x: Tensor) -> None:
        """Set mean and axes from features (N, C); axes along which nothing varies are 0."""
        x = x.double()
        std = x.std(0, correction=0)
        scale = torch.where(std > 1e-9 * x.abs().amax(0), std, 1.0)
        z = (x - x.mean(0)) / scale
        values, vectors = torch.linalg.eigh(z.T @ z / len(z))  # ascending
        kept = values > 1e-10 * values[-1]
        leading = (vectors * kept).flip(1)[:, : self.axes.shape[1]]
        self.mean.copy_(x.mean(0))
        self.axes.copy_(leading / scale[:, None])

    def forward(self, vector: Tensor) -> Tensor:
        """Return (B, size) of (B, C)."""
        return (vector - self.mean) @ self.axes
