"""What rows on a frozen trunk share: an affine map of the pooled vector, fitted without a step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from protocols.method import Features, Method, Probe, Term, TrainSpec

NEGLIGIBLE = 1e-10  # of the largest variance: what is below is rounding


class ClosedForm(Method):
    """Embed by ``(x - mean) @ axes``, both fitted once on the fold's training images."""

    trains = False

    def make_head(self, spec: TrainSpec) -> nn.Module:
        """Return the map, which has nothing to train."""
        return Projection(spec.channels, min(spec.embedding_size, spec.channels))

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return no terms: nothing is minimised."""
        return []

    def prepare(self, probe: Probe) -> None:
        """Fit mean and axes on the training images' pooled features."""
        assert isinstance(self.head, Projection)
        x, labels = torch.tensor(probe("vector")).double(), torch.tensor(self.spec.labels)
        mean = x.mean(0)
        self.head.mean.copy_(mean)
        self.head.axes.copy_(self.fitted(x - mean, labels)[:, : self.head.axes.shape[1]])

    def fitted(self, centred: Tensor, labels: Tensor) -> Tensor:
        """Return axes (C, C), the leading one first.

        Args:
            centred: (N, C) float64 features of the training images, minus their mean.
            labels: (N,) their classes, 0-based.
        """
        raise NotImplementedError(f"{type(self).__name__} must say its axes in fitted()")

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return the projected vector as the embedding."""
        return {"embedding": self.head(features.vector.float())}


class Projection(nn.Module):
    """A point that becomes 0, and axes to project on."""

    mean: Tensor
    axes: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("axes", torch.eye(channels, size))

    def forward(self, vector: Tensor) -> Tensor:
        """Return (B, size) of (B, C)."""
        return (vector - self.mean) @ self.axes


def covariance(centred: Tensor) -> Tensor:
    """Return (C, C) the covariance of rows (N, C) whose mean is 0, divisor N."""
    return centred.T @ centred / len(centred)


def principal(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues (C,) and eigenvectors (C, C) of a covariance, the largest first.

    Eigenvectors without variance are 0: which of them comes first would be chance, and training
    images say nothing about them.
    """
    values, vectors = torch.linalg.eigh(matrix)  # ascending
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    return values, vectors * (values > NEGLIGIBLE * values[0])


def class_means(x: Tensor, labels: Tensor) -> Tensor:
    """Return (classes, C) the mean of each class's rows."""
    classes = int(labels.max()) + 1
    sums = x.new_zeros(classes, x.shape[1]).index_add_(0, labels, x)
    return sums / torch.bincount(labels, minlength=classes)[:, None]
