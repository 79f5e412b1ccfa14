"""Margin loss: pairs inside or outside one learned boundary, over all triplets."""

from collections.abc import Sequence

from pytorch_metric_learning.losses import MarginLoss
from pytorch_metric_learning.reducers import DivisorReducer

from protocols.method import Method, Term, TrainSpec
from protocols.methods._distances import ExactDistance
from protocols.space import Real


class Margin(Method):
    """Hinges around a learned distance, sum over triplets divided by the violated hinges."""

    paper = "Wu et al., ICCV 2017, arXiv:1706.07567; all triplets as in arXiv:2003.08505"
    paper_name = "margin"
    margin = Real(-0.2, 2.0, default=0.2)
    beta = Real(-0.2, 2.0, default=1.2)  # where the boundary starts
    beta_lr = Real(1e-6, 1.0, default=5e-4, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the boundary; weight decay would pull it to 0."""
        loss = MarginLoss(
            margin=self.margin,
            beta=self.beta,
            nu=0,
            learn_beta=True,
            distance=ExactDistance(normalize_embeddings=True, p=2, power=1),
            reducer=DivisorReducer(),
        )
        return [Term(loss, lr=self.beta_lr, decay=False)]
