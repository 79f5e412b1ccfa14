"""Circle loss: pairs weighted by how far they are from their optimum, pooled per anchor."""

from collections.abc import Sequence

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import CircleLoss
from pytorch_metric_learning.reducers import MeanReducer

from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class Circle(Method):
    """Mean over anchors; one without a positive or a negative counts as 0."""

    paper = "Sun et al., CVPR 2020, arXiv:2002.10857"
    m = Real(0.0, 1.0, default=0.4)
    gamma = Real(1.0, 512.0, default=80.0, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        # A mean over non-zero anchors would raise the weight of the rest whenever a solved
        # anchor's softplus underflows.
        loss = CircleLoss(
            m=self.m, gamma=self.gamma, distance=CosineSimilarity(), reducer=MeanReducer()
        )
        return [Term(loss)]
