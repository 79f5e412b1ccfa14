"""Batch-all triplet loss: every triplet of the batch, mean over the violated ones."""

from collections.abc import Sequence

from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import AvgNonZeroReducer

from protocols.method import Method, Term, TrainSpec
from protocols.methods._distances import ExactDistance
from protocols.space import Real


class Triplet(Method):
    """Hinge on distance differences of unit vectors, over all triplets that violate it."""

    paper = "arXiv:1703.07737 (batch-all, non-zero mean); form of arXiv:2003.08505"
    paper_name = "triplet"
    margin = Real(-0.2, 2.0, default=0.2)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        loss = TripletMarginLoss(
            margin=self.margin,
            distance=ExactDistance(normalize_embeddings=True, p=2, power=1),
            reducer=AvgNonZeroReducer(),
        )
        return [Term(loss)]
