"""Supervised contrastive loss: each positive against everything else in the batch."""

from collections.abc import Sequence

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.reducers import MeanReducer

from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class SupCon(Method):
    """Mean over an anchor's positives, then over anchors; one without positives counts as 0.

    So does one without negatives, as in the library: a batch of a single class gives 0, where
    equation 2 of the paper compares positives with each other.
    """

    paper = "Khosla et al., NeurIPS 2020, arXiv:2004.11362"
    temperature = Real(0.01, 1.0, default=0.07, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        loss = SupConLoss(
            temperature=self.temperature, distance=CosineSimilarity(), reducer=MeanReducer()
        )
        return [Term(loss)]
