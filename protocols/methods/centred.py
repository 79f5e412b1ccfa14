"""The trunk's pooled features minus their mean over the training images."""

from torch import Tensor

from protocols.method import Features, TrainSpec
from protocols.methods._closed_form import ClosedForm, Projection


class Centred(ClosedForm):
    """Take the mean away, rank by angle.

    Features that end in a ReLU are never negative, so all of them point into one corner and their
    angles are small; without the mean the angles spread.
    """

    def make_head(self, spec: TrainSpec) -> Projection:
        """Return a head that has a mean and no axes: every channel stays."""
        return Projection(spec.channels, 0)

    def fitted(self, centred: Tensor, labels: Tensor) -> Tensor:
        """Return no axes."""
        del labels
        return centred.new_empty(centred.shape[1], 0)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return the vector minus the mean as the embedding."""
        mean: Tensor = self.head.mean  # type: ignore[assignment]
        return {"embedding": features.vector.float() - mean}
