"""CosFace: the cosine to the own class must win by a margin."""

from collections.abc import Sequence

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import CosFaceLoss
from pytorch_metric_learning.reducers import MeanReducer

from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class CosFace(Method):
    """Cross entropy over scaled cosines, a margin taken off the target's."""

    paper = "Wang et al., CVPR 2018, arXiv:1801.09414"
    paper_name = "cosface"
    draws = "classes"
    margin = Real(0.0, 1.0, default=0.35)
    scale = Real(0.01, 200.0, default=64.0)
    weight_lr = Real(1e-6, 1.0, default=1e-2, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the class vectors."""
        loss = CosFaceLoss(
            num_classes=spec.classes,
            embedding_size=spec.embedding_size,
            margin=self.margin,
            scale=self.scale,
            distance=CosineSimilarity(),
            reducer=MeanReducer(),
        )
        return [Term(loss, lr=self.weight_lr)]
