"""Batch-hard triplet loss, hinge or soft margin, on raw or unit embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu, softplus

from protocols.method import Method, Term, TrainSpec
from protocols.space import Choice, Real


class TripletHard(Method):
    """Each anchor's farthest positive against its nearest negative, mean over anchors."""

    paper = "arXiv:1703.07737"
    soft = Choice((True, False), default=True)  # softplus(v) in place of max(0, margin + v)
    margin = Real(0.0, 1.0, default=0.2)  # of the hinge only
    unit = Choice((False, True), default=False)  # the paper leaves embeddings unnormalised

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term; raw embeddings are also ranked raw."""
        self.normalize_embeddings = self.unit
        return [Term(self.batch_hard)]

    def batch_hard(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over anchors that have a positive and a negative, 0 without any."""
        z = normalize(embeddings) if self.unit else embeddings
        same = labels[:, None] == labels  # (B, B)
        d = distances(z)  # (B, B)
        positive = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
        farthest = d.masked_fill(~positive, -torch.inf).amax(1)  # (B,)
        nearest = d.masked_fill(same, torch.inf).amin(1)
        anchors = positive.any(1) & (~same).any(1)
        v = farthest[anchors] - nearest[anchors]
        if not len(v):
            return embeddings.sum() * 0.0
        return softplus(v).mean() if self.soft else relu(self.margin + v).mean()


def distances(z: Tensor) -> Tensor:
    """Return Euclidean distances (B, B) with a finite gradient between equal rows."""
    # Differences, not the Gram matrix: its cancellation turns near-duplicates into noise.
    squared = (z[:, None] - z).square().sum(-1)
    return (squared + 1e-12).sqrt()
