"""Contextual similarity: images of a class should have the same nearest neighbours."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protocols import dense
from protocols.method import Method, Term, TrainSpec
from protocols.space import Choice, Real

SLOPE = 10.0  # that a step has in place of its own, which is 0
MEAN = 0.25  # cosine that the mean over all pairs is held at


class Contextual(Method):
    """Agreement of shared neighbours with the labels, a contrastive hinge and a mean cosine.

    With D = 2 - 2s for cosines s and k images of a class in a batch, N_ij = 1 where D_ij is at
    most the k-th smallest of row i (its own 0 included) plus epsilon. Rows i and j overlap by::

        W_ij = N_ij (|Ni and Nj| / |Ni| + |neither| / |not Ni|) / 2

    W is averaged over the neighbours that i has in common by k / 2 (each within the other's k / 2
    nearest), then over both directions: J. The loss is the sum of::

        context                  * mean over all B^2 pairs of (1 - J)^2 for one class, J^2 for two
        spread                   * (mean of all s - 0.25)^2
        (1 - context - spread)   * contrastive loss: means of the positive [pos_margin - s]+
                                   and of the positive [s - neg_margin]+

    An image's pair with itself counts 0. N is a step; its gradient is taken as 10. Of the counts
    in denominators |Ni| and |not Ni| have none; that of the neighbours in common has one.

    Defaults are those of the authors' released code: context 0.4, spread 0.1, margins 0.75 and
    0.6, epsilon 0.05, k = 4 images of a class. It trains with Adam at 8e-5 on CUB, 1.6e-4 on Cars,
    4e-5 on SOP, the trunk at half of that, from ImageNet weights, and picks its best epoch on the
    test classes, which is not done here. Context is searched down to 0, where the contrastive
    loss is left.
    """

    paper = "Liao et al., ICML 2023, arXiv:2210.01908"
    context = Real(0.0, 0.85, default=0.4)
    spread = Real(0.0, 0.15, default=0.1)
    pos_margin = Real(0.5, 1.0, default=0.75)
    neg_margin = Real(0.0, 0.9, default=0.6)
    epsilon = Choice((0.05,), default=0.05)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the three terms, whose weights sum to 1."""
        rest = 1 - self.context - self.spread
        return [
            Term(self.neighbours, name="context", weight=self.context),
            Term(self.mean_cosine, name="spread", weight=self.spread),
            Term(self.contrastive, name="contrastive", weight=max(0.0, rest)),
        ]

    def neighbours(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () disagreement of shared neighbours with the (B,) labels."""
        j = contextual(_cosines(embeddings), self.spec.images_per_class, self.epsilon)
        positive, negative = dense.pairs(labels)
        lost = torch.where(positive, (1 - j).square(), 0.0)
        lost = lost + torch.where(negative, j.square(), 0.0)
        return lost.mean()

    def mean_cosine(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () squared distance of the mean cosine, own pairs included, from 0.25."""
        del labels
        return (_cosines(embeddings).mean() - MEAN).square()

    def contrastive(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () means of both violated hinges."""
        s, (positive, negative) = _cosines(embeddings), dense.pairs(labels)
        pull = dense.mean_of_violated(self.pos_margin - s, positive)
        return pull + dense.mean_of_violated(s - self.neg_margin, negative)


def contextual(s: Tensor, count: int, epsilon: float) -> Tensor:
    """Return the contextual similarity J (B, B) of cosines ``s`` (B, B).

    Args:
        s: cosines.
        count: k, how many nearest images are neighbours, each image itself among them.
        epsilon: how much farther than the k-th a neighbour may be.

    Source: Liao et al. 2023, section 3, details as its released code has them.
    """
    d = 2 - 2 * s
    count = min(count, len(d))
    nearest = d.detach().topk(count, 1, largest=False).values  # (B, k), in order
    edge, half = nearest[:, -1:], nearest[:, max(0, count // 2 - 1), None]
    near = _step(edge + epsilon - d)
    far = 1 - near
    common = near @ near.T / near.sum(1, keepdim=True).detach()
    neither = far @ far.T / far.sum(1, keepdim=True).detach().clamp(min=1)
    overlap = near * (common + neither) / 2
    closest = _step(half + epsilon - d)
    mutual = closest * closest.T
    # Each image is in common with itself, so no count is 0.
    j = mutual @ overlap / mutual.sum(1, keepdim=True)
    return (j + j.T) / 2


def _step(x: Tensor) -> Tensor:
    """Return 1 where ``x`` is at least 0, else 0, with a slope of ``SLOPE`` everywhere."""
    return (x >= 0).to(x.dtype) + SLOPE * (x - x.detach())


def _cosines(embeddings: Tensor) -> Tensor:
    z = normalize(embeddings)
    return z @ z.T
