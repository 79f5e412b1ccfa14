"""FastAP: average precision from soft histograms of distances."""

from collections.abc import Sequence

from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import FastAPLoss
from pytorch_metric_learning.reducers import MeanReducer

from protocols.method import Method, Term, TrainSpec
from protocols.space import Integer


class FastAP(Method):
    """1 - AP over bins of squared distance in [0, 4], mean over anchors with a positive.

    The paper draws hard batches of two categories; here batches are the protocol's.
    """

    paper = "Cakir et al., CVPR 2019"
    paper_name = "fastap"
    bins = Integer(2, 250, default=10, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        loss = FastAPLoss(
            num_bins=self.bins,
            distance=LpDistance(normalize_embeddings=True, p=2, power=2),
            reducer=MeanReducer(),
        )
        return [Term(loss)]
