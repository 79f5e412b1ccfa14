"""ProxyNCA: one learned proxy per class, softmax over squared distances to all of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class ProxyNCA(Method):
    """The form that counts a sample's own proxy in the denominator, as later work does."""

    paper = "Movshovitz-Attias et al., ICCV 2017, arXiv:1703.07464; form of arXiv:2003.08505"
    paper_name = "proxynca"
    draws = "classes"
    scale = Real(0.01, 100.0, default=9.0)  # factor of the squared distance
    proxy_lr = Real(1e-6, 1.0, default=1e-2, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the proxies."""
        loss = ProxyNCALoss(spec.classes, spec.embedding_size, scale=self.scale)
        return [Term(loss, lr=self.proxy_lr)]


class ProxyNCALoss(nn.Module):
    """Cross entropy over -scale * squared distance of unit vectors; proxies start N(0, 1)."""

    def __init__(self, classes: int, embedding_size: int, *, scale: float) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(classes, embedding_size))
        self.scale = scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () mean over the batch; a label without a proxy raises IndexError."""
        cosine = normalize(embeddings) @ normalize(self.proxies).T  # (B, C)
        # Squared distance is 2 - 2 cosine, and a softmax does not see the 2. Staying in logs
        # keeps a sample whose own proxy has probability 0 in float32.
        return cross_entropy(2 * self.scale * cosine, labels)
