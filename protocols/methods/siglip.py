"""The sigmoid loss of SigLIP on class labels: every pair is a yes-or-no question of its own."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from protocols import dense
from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class SigLIP(Method):
    """Logistic loss of all ordered pairs, divided by the batch size; scale and bias are learned.

    With s the cosine of a pair and y = 1 for one class, -1 for two::

        (1 / B) sum over pairs i, j of two images of ln(1 + exp(-y (t s + b))),  t = exp(t')

    Paper, section 3.2, whose pairs are an image and a text and whose positives are the diagonal;
    here pairs are two images of the batch and positives share a class. t' and b start at ln of
    ``scale`` and at ``bias``, 10 and -10 as in the paper, and are learned without weight decay.
    The bias starts where nearly all pairs are negatives, which they are in a batch of thousands;
    a batch of 32 is less uneven, so ``bias`` is searched up to 0. The paper has no rate of their
    own for the two: ``balance_lr`` is ours.
    """

    paper = "loss of Zhai et al., ICCV 2023, arXiv:2303.15343, on class labels"
    scale = Real(1.0, 100.0, default=10.0, log=True)  # at the start
    bias = Real(-20.0, 0.0, default=-10.0)  # at the start
    balance_lr = Real(1e-6, 1e-1, default=1e-3, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns scale and bias."""
        return [Term(SigmoidLoss(self.scale, self.bias), lr=self.balance_lr, decay=False)]


class SigmoidLoss(nn.Module):
    """Pairwise logistic loss with a learned scale and bias.

    Args:
        scale: t at the start.
        bias: b at the start.
    """

    def __init__(self, scale: float, bias: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () loss of (B, D) embeddings; an image is no pair with itself."""
        z = normalize(embeddings)
        odds = self.log_scale.exp() * (z @ z.T) + self.bias  # (B, B)
        positive, negative = dense.pairs(labels)
        lost = torch.where(positive, -logsigmoid(odds), 0.0).sum()
        lost = lost + torch.where(negative, -logsigmoid(-odds), 0.0).sum()
        return lost / len(z)
