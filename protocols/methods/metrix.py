"""Metrix: Multi-Similarity on pairs and on mixtures of embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Beta
from torch.nn.functional import normalize

from protocols import dense
from protocols.method import Term, TrainSpec
from protocols.methods.ms import MultiSimilarity
from protocols.space import Real


class Metrix(MultiSimilarity):
    """Multi-Similarity plus the same loss of images against mixtures of two embeddings.

    A mixture v_j = unit(q z_j + (1 - q) z_p(j)) is for an image i positive by the share
    y_ij = q [i and j of one class] + (1 - q) [i and p(j) of one class]. With s the cosine of i and
    v_j, l = ``base``, mixtures that i is part of left out, the mean over images of::

        (1 / alpha) ln(1 + sum of y e^(-alpha (s - l)))
        + (1 / beta) ln(1 + sum of (1 - y) e^(beta (s - l)))

    is added, times ``weight``. For whole shares it is Multi-Similarity's own value. Each batch
    draws one q from Beta(shape, shape) and one permutation p of its images.

    Mixing embeddings is one of the paper's three kinds (input, features, embeddings); the other
    two mix inside the trunk. Weight 0.4 and Beta(2, 2) are from a public copy of the authors'
    code, Multi-Similarity is that of ``ms``. The authors mix, for each image, a positive
    with a negative, or the image itself with a negative; here any two images of the batch are.

    Two errors of that copy are not here: its mask of mixed negatives is written into that of the
    unmixed ones, so mixed negatives never count; and it multiplies the unmixed sums by q.
    """

    paper = "Venkataramanan et al., ICLR 2022, arXiv:2106.04990"
    paper_name = ""  # the Reality Check has no such row
    weight = Real(0.05, 2.0, default=0.4, log=True)
    shape = Real(0.5, 8.0, default=2.0, log=True)  # of the Beta distribution of q

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return Multi-Similarity's term and that of the mixtures."""
        return [*super().make_terms(spec), Term(self.mixed, name="mixed", weight=self.weight)]

    def noise(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return the share q () and the permutation p (rows,) of a batch."""
        shape = torch.tensor(self.shape)
        return Beta(shape, shape).sample(), torch.randperm(rows)

    def mixed(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () loss of (B, D) embeddings against their mixtures."""
        share, partner = self.drawn or self.noise(len(labels))
        z = normalize(embeddings)
        return self.against(z, labels, share.to(z), partner.to(z.device))

    def against(self, z: Tensor, labels: Tensor, share: Tensor, partner: Tensor) -> Tensor:
        """Return the same for a given share () and partners (B,); ``z`` are unit rows."""
        positive, negative = dense.pairs(labels)
        same, own = ~negative, ~negative & ~positive  # of one class; an image with itself
        v = normalize(share * z + (1 - share) * z[partner])  # (B, D)
        y = share * same + (1 - share) * same[:, partner]  # (images, mixtures)
        others = ~(own | own[:, partner])
        s = z @ v.T - self.base
        pull = _weighted(-self.alpha * s, y, others) / self.alpha
        push = _weighted(self.beta * s, 1 - y, others) / self.beta
        return (pull + push).mean()


def _weighted(values: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Return ln(1 + sum of weight * exp(value)) over each row's (B, B) masked entries, (B,)."""
    tiny = torch.finfo(weights.dtype).tiny
    return dense.log_sum(values + weights.clamp(min=tiny).log(), mask & (weights > 0), one=True)
