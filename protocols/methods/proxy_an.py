"""Proxy-AN: Proxy-Anchor pulls each proxy's samples, Proxy-NCA pushes each sample's proxies."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from protocols import dense
from protocols.method import Term, TrainSpec
from protocols.methods.proxy_anchor import ProxyAnchor


class ProxyAN(ProxyAnchor):
    """Positives by proxy as in Proxy-Anchor; each sample against all foreign proxies.

    With s_c the cosine to proxy c, a = alpha and m = margin::

        mean over proxies present of ln(1 + sum over their samples of exp(-a (s_c - m)))
        + mean over samples of ln(1 + sum over c other than their own of exp(a (s_c + m)))

    The first line is Proxy-Anchor's. Its second line compares the samples of a proxy with each
    other; this one compares the proxies that a sample could be taken for.

    Defaults are those of the authors' released code, which has Proxy-Anchor's alpha and margin.
    It trains proxies at 500 times the trunk's rate under AdamW; ``proxy_lr`` is searched here.
    It draws 27 classes of 3 images. With one image of a class, as most protocols that ship have it
    for methods that ask for classes, the sum over a proxy's samples has one term, and the positive
    side weighs none above another.
    """

    paper = "Peng et al., Neural Networks 195, 2026, 108254"

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the proxies."""
        loss = ProxyANLoss(spec.classes, spec.embedding_size, margin=self.margin, alpha=self.alpha)
        return [Term(loss, lr=self.proxy_lr)]


class ProxyANLoss(nn.Module):
    """Both lines of the loss; proxies start as Proxy-Anchor's do."""

    def __init__(self, classes: int, embedding_size: int, *, margin: float, alpha: float) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.empty(classes, embedding_size))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")
        self.margin, self.alpha = margin, alpha

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () loss of (B, D) embeddings; a label without a proxy raises."""
        s = normalize(embeddings) @ normalize(self.proxies).T  # (B, C)
        own = one_hot(labels, s.shape[1]).bool()
        pull = dense.log_sum(-self.alpha * (s - self.margin).T, own.T, one=True)  # (C,)
        push = dense.log_sum(self.alpha * (s + self.margin), ~own, one=True)  # (B,)
        return pull.sum() / own.any(0).sum().clamp(min=1) + push.mean()
