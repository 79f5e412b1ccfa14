"""The trunk as it is, pooled, with no head and no training: the row every method must beat."""

from collections.abc import Sequence

from torch import Tensor, nn

from protocols.method import Features, Method, Term, TrainSpec


class Untrained(Method):
    """Rank by the trunk's own pooled feature."""

    trains = False

    def make_head(self, spec: TrainSpec) -> nn.Module:
        """Return a head without parameters."""
        return nn.Identity()

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return no terms: nothing is minimised."""
        return []

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return the pooled vector as the embedding."""
        return {"embedding": features.vector}
