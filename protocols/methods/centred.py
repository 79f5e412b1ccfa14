"""The trunk's pooled features minus their mean over the training images."""

import torch
from torch import Tensor

from protocols.method import TrainSpec
from protocols.methods._closed_form import ClosedForm, Projection


class Centred(ClosedForm):
    """Take the mean away, rank by angle.

    Features that end in a ReLU are never negative, so all of them point into one corner and their
    angles are small; without the mean the angles spread.
    """

    def make_head(self, spec: TrainSpec) -> Projection:
        """Return a map that keeps every channel."""
        return Projection(spec.channels, spec.channels)

    def fitted(self, centred: Tensor, labels: Tensor) -> Tensor:
        """Return the channels themselves."""
        del labels
        return torch.eye(centred.shape[1], dtype=centred.dtype)
