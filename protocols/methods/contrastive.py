"""Contrastive loss on all pairs of a batch, as the Reality Check configured it."""

from collections.abc import Sequence

from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.reducers import AvgNonZeroReducer

from protocols.method import Method, Term, TrainSpec
from protocols.methods._distances import ExactDistance
from protocols.space import Real


class Contrastive(Method):
    """Hinges on unit-vector distances, each mean over its own violated pairs, not squared."""

    paper = "Hadsell, Chopra and LeCun, CVPR 2006; form of arXiv:2003.08505"
    paper_name = "contrastive"
    pos_margin = Real(-0.2, 2.0, default=0.0)
    neg_margin = Real(-0.2, 2.0, default=1.0)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        loss = ContrastiveLoss(
            pos_margin=self.pos_margin,
            neg_margin=self.neg_margin,
            distance=ExactDistance(normalize_embeddings=True, p=2, power=1),
            reducer=AvgNonZeroReducer(),
        )
        return [Term(loss)]
