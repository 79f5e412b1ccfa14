"""NT-Xent: each positive pair against the negatives of its anchor, by cross entropy."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from protocols.method import Method, Term, TrainSpec
from protocols.space import Choice, Real


class NTXent(Method):
    """Mean over ordered positive pairs; other positives are not in the denominator.

    ``compat`` is the loss that the Reality Check's numbers were made with: -log(p + 1e-20). It
    has no gradient for pairs with a p far below 1e-20, which are many at the paper's
    temperatures (0.0002 on SOP).
    """

    paper = "Sohn, NeurIPS 2016; Chen et al., arXiv:2002.05709; form of arXiv:2003.08505"
    paper_name = "ntxent"
    temperature = Real(1e-5, 100.0, default=0.07, log=True)
    compat = Choice((False, True), default=False, searched=False)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        return [Term(self.cross_entropy)]

    def cross_entropy(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over positive pairs, 0 without a positive or a negative."""
        z = normalize(embeddings)
        same = labels[:, None] == labels  # (B, B)
        positive = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
        if not positive.any() or same.all():
            return embeddings.sum() * 0.0
        s = z @ z.T / self.temperature  # (B, B)
        # Not log(p): at a temperature of 0.001 the p of a hard pair is 0 in float32, and the
        # pairs that need it most would lose their gradient.
        against = s.masked_fill(same, -torch.inf).logsumexp(1)  # (B,)
        lead = (s - against[:, None])[positive]  # log-odds of p
        if self.compat:
            return -(torch.sigmoid(lead) + 1e-20).log().mean()
        return softplus(-lead).mean()
