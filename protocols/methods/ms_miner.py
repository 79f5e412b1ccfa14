"""Multi-similarity loss on the pairs its own miner keeps: the method as published."""

from collections.abc import Sequence

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class MultiSimilarityMined(Method):
    """Pairs within epsilon of the hardest opposite pair, then weighted softly."""

    paper = "Wang et al., CVPR 2019, arXiv:1904.06627"
    paper_name = "ms_miner"
    alpha = Real(0.001, 100.0, default=2.0, log=True)
    beta = Real(0.01, 200.0, default=40.0, log=True)
    base = Real(0.0, 1.0, default=0.5)
    epsilon = Real(0.0, 1.0, default=0.1)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term; loss and miner measure by the same cosine."""
        cosine = CosineSimilarity()
        loss = OnMinedPairs(
            alpha=self.alpha,
            beta=self.beta,
            base=self.base,
            distance=cosine,
            reducer=MeanReducer(),
        )
        return [Term(loss, miner=MultiSimilarityMiner(epsilon=self.epsilon, distance=cosine))]


class OnMinedPairs(MultiSimilarityLoss):  # type: ignore[misc]
    """The library's loss, without its return of 0 when one pair of each kind is mined."""

    keeps_single_pairs = True  # read by :mod:`protocols.dense`

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        mined: tuple[Tensor, ...],
        reference: Tensor,
        reference_labels: Tensor,
    ) -> object:
        """Return the loss of every anchor; one without mined pairs counts as 0."""
        return self.mat_based_loss(self.distance(embeddings, reference), mined)
