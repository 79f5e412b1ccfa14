"""AntiCo: Proxy-Anchor, and a price on proxies that collapse."""

from collections.abc import Sequence

import torch
from pytorch_metric_learning.losses import ProxyAnchorLoss
from torch import Tensor
from torch.nn.functional import normalize

from protocols.method import Term, TrainSpec, Wants
from protocols.methods.proxy_anchor import ProxyAnchor
from protocols.space import Real


class AntiCollapse(ProxyAnchor):
    """Proxy-Anchor plus weight * exp(-R), with R the coding rate of the proxies present.

    With P the m unit proxies (rows) of the classes in the batch and D the embedding size::

        R = 1/2 ln det(I + m / (D epsilon) P P^T)

    R is larger the more directions the proxies span, so its exponential falls as they spread.

    The defaults are those of the authors' released code: weight 1 / 0.0035 = 286, epsilon 0.5,
    Proxy-Anchor with alpha 64 and margin 0.1, two images of a class in a batch of 90. Its proxies
    start from a normal distribution of deviation 1/8, here as Proxy-Anchor's do. Its positive part
    is a mean over images, here one over classes: the same where all have as many. The factor m / (D
    epsilon) is the released code's too. The coding rate as it is written has D / (m epsilon^2)
    there. With 45 proxies of 512 numbers that makes exp(-R) 3e-38, a term without any effect, so
    the factor of the code is the method.

    Weight is searched down to 1, where Proxy-Anchor is left: exp(-R) is below 1.
    """

    paper = "Jiang et al., TMM 2024, arXiv:2407.03106"
    wants = Wants(images_per_class=2)
    alpha = Real(1.0, 128.0, default=64.0, log=True)
    weight = Real(1.0, 1e4, default=286.0, log=True)
    epsilon = Real(0.1, 1.0, default=0.5)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return Proxy-Anchor's term, which owns the proxies, and the one that spreads them."""
        collapse = Term(self.collapse, name="collapse", weight=self.weight)
        return [*super().make_terms(spec), collapse]

    def collapse(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return exp(-R) of the proxies of the (B,) labels; (B, D) embeddings give the width."""
        loss = self._terms()[0].loss
        assert isinstance(loss, ProxyAnchorLoss)
        proxies: Tensor = normalize(loss.proxies)[labels]  # (B, D)
        # Each class once, in as many rows whatever the labels: a row of zeros adds nothing to R.
        first = (labels[:, None] == labels).tril(-1).sum(1) == 0  # (B,)
        factor = first.to(proxies.dtype).sum() / (embeddings.shape[1] * self.epsilon)
        return (-coding_rate(proxies * first[:, None], factor)).exp()


def coding_rate(rows: Tensor, factor: Tensor) -> Tensor:
    """Return 1/2 ln det(I + factor P P^T) of (m, D) rows P, a () tensor.

    Source: the coding rate of Yu et al., NeurIPS 2020, arXiv:2006.08558, with its factor left open.
    """
    own = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    # Unlike a determinant the factors of Cholesky cannot overflow; no eigenvalue is below 1.
    lower: Tensor = torch.linalg.cholesky_ex(own + factor * rows @ rows.T).L
    return lower.diagonal().log().sum()
