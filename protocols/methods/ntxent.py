"""NT-Xent: each positive pair against the negatives of its anchor, by cross entropy."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from protocols import dense
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
    temperature = Real(1e-5, 100.0, default=0.1, log=True)
    compat = Choice((False, True), default=False, searched=False)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        return [Term(self.cross_entropy)]

    def cross_entropy(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over positive pairs, 0 without a positive or a negative."""
        z = normalize(embeddings)
        same = labels[:, None] == labels  # (B, B)
        positive = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
        s = z @ z.T / self.temperature  # (B, B)
        if not dense.on_host(z):
            return self._dense(s, same, positive)
        if not positive.any() or same.all():
            return embeddings.sum() * 0.0
        # Not log(p): at a temperature of 0.001 the p of a hard pair is 0 in float32, and the
        # pairs that need it most would lose their gradient.
        against = s.masked_fill(same, -torch.inf).logsumexp(1)  # (B,)
        return self._surprise((s - against[:, None])[positive]).mean()

    def _surprise(self, lead: Tensor) -> Tensor:
        """Return -log(p) of log-odds ``lead``."""
        return -(torch.sigmoid(lead) + 1e-20).log() if self.compat else softplus(-lead)

    def _dense(self, s: Tensor, same: Tensor, positive: Tensor) -> Tensor:
        """Return the same loss with fixed shapes; where a class is alone, 0."""
        against = s.masked_fill(same & ~same.all(), -torch.inf).logsumexp(1)
        found = dense.mean_of(self._surprise(s - against[:, None]), positive)
        return found * ~same.all()
