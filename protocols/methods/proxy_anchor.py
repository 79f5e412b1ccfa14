"""Proxy-Anchor: every proxy is an anchor that weighs the batch by hardness."""

from collections.abc import Sequence

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import ProxyAnchorLoss
from pytorch_metric_learning.reducers import DivisorReducer

from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class ProxyAnchor(Method):
    """Log-sum-exp over a proxy's samples: mean over proxies present, and over all for negatives.

    It asks for batches of as many classes as fit. With one image of a class, as most protocols
    that ship have it, a proxy has one positive and nothing to weigh it against: hardness weighs
    negatives alone. The authors' released code draws batches of 120 to 180 from all images at
    random: of a hundred classes about half of those present have two images or more. Its head,
    too, is another one: it reads the map's average plus its maximum and starts from Kaiming's
    normal distribution (fan-out) with a bias of 0.
    """

    paper = "Kim et al., CVPR 2020, arXiv:2003.13911"
    draws = "classes"
    margin = Real(0.0, 1.0, default=0.1)
    alpha = Real(1.0, 128.0, default=32.0, log=True)
    proxy_lr = Real(1e-6, 1.0, default=1e-2, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the proxies."""
        loss = ProxyAnchorLoss(
            num_classes=spec.classes,
            embedding_size=spec.embedding_size,
            margin=self.margin,
            alpha=self.alpha,
            distance=CosineSimilarity(),
            reducer=DivisorReducer(),
        )
        return [Term(loss, lr=self.proxy_lr)]
