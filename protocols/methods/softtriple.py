"""SoftTriple: several learned centres per class, softly chosen, in a softmax with margin."""

from collections.abc import Sequence

import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import SoftTripleLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn
from torch.nn.functional import normalize

from protocols.method import Method, Term, TrainSpec
from protocols.space import Integer, Real


class SoftTriple(Method):
    """Similarity to a class is the softmax mean of the similarities to its centres.

    ``gamma`` divides inside that softmax: larger is softer. ``reg_weight`` multiplies the mean
    distance between a class's centres, as in the Reality Check's code; the tau of SoftTriple's
    own code is twice that.
    """

    paper = "Qian et al., ICCV 2019, arXiv:1909.05235"
    paper_name = "softtriple"
    draws = "classes"
    la = Real(0.01, 200.0, default=20.0)
    gamma = Real(1e-5, 100.0, default=0.1, log=True)
    margin = Real(0.0, 1.0, default=0.01)
    centres = Integer(1, 10, default=10)
    reg_weight = Real(0.0, 1.0, default=0.1)  # of no use with a single centre
    centre_lr = Real(1e-6, 1.0, default=1e-2, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the centres."""
        loss = SoftTripleLoss(
            num_classes=spec.classes,
            embedding_size=spec.embedding_size,
            centers_per_class=self.centres,
            la=self.la,
            gamma=self.gamma,
            margin=self.margin,
            weight_regularizer=Spread(spec.classes) if self.centres > 1 else None,
            weight_reg_weight=self.reg_weight,
            distance=CosineSimilarity(),
            reducer=MeanReducer(),
        )
        return [Term(loss, lr=self.centre_lr)]


class Spread(nn.Module):
    """Mean distance between unit centres of the same class, which then merge."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, weights: Tensor) -> Tensor:
        """Return the () mean over classes and pairs of their centres; (C * K, D), class first."""
        w = normalize(weights).reshape(self.classes, -1, weights.shape[1])  # (C, K, D)
        first, second = torch.triu_indices(w.shape[1], w.shape[1], offset=1, device=w.device)
        squared: Tensor = (w[:, first] - w[:, second]).square().sum(-1)
        # The library's epsilon is the smallest float: merged centres would explode.
        return (squared + 1e-5).sqrt().mean()
