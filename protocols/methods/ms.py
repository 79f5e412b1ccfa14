"""Multi-similarity loss over all pairs of the batch, without mining."""

from collections.abc import Sequence

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.reducers import MeanReducer

from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class MultiSimilarity(Method):
    """Soft violations of cosine similarity, mean over all anchors."""

    paper = "Wang et al., CVPR 2019, arXiv:1904.06627"
    paper_name = "ms"
    alpha = Real(0.001, 100.0, default=2.0, log=True)
    beta = Real(0.01, 200.0, default=40.0, log=True)
    base = Real(0.0, 1.0, default=0.5)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        loss = MultiSimilarityLoss(
            alpha=self.alpha,
            beta=self.beta,
            base=self.base,
            distance=CosineSimilarity(),
            reducer=MeanReducer(),
        )
        return [Term(loss)]
