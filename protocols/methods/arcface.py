"""ArcFace: the angle to the own class must win by a margin."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from protocols.method import Method, Term, TrainSpec
from protocols.methods._angles import with_margin
from protocols.space import Choice, Real


class ArcFace(Method):
    """Cross entropy over scaled cosines, a margin in degrees added to the target's angle.

    ``compat`` is the form that the Reality Check's numbers were made with: cos(angle + margin)
    also where the sum passes 180 degrees and the cosine rises again.
    """

    paper = "Deng et al., CVPR 2019, arXiv:1801.07698"
    paper_name = "arcface"
    draws = "classes"
    margin = Real(0.0, 90.0, default=28.6)  # degrees
    scale = Real(0.01, 300.0, default=64.0)
    weight_lr = Real(1e-6, 1.0, default=1e-2, log=True)
    compat = Choice((False, True), default=False, searched=False)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the class vectors."""
        loss = ArcFaceLoss(
            spec.classes,
            spec.embedding_size,
            margin=self.margin,
            scale=self.scale,
            plain=self.compat,
        )
        return [Term(loss, lr=self.weight_lr)]


class ArcFaceLoss(nn.Module):
    """Additive angular margin; class vectors start N(0, 1).

    Args:
        classes: C.
        embedding_size: D.
        margin: degrees.
        scale: factor of all cosines.
        plain: see :func:`protocols.methods._angles.with_margin`.
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        margin: float,
        scale: float,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.plain = plain
        self.weight = nn.Parameter(torch.randn(classes, embedding_size))
        self.margin, self.scale = math.radians(margin), scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () mean over the batch; a label without a vector raises."""
        cosine = normalize(embeddings) @ normalize(self.weight).T  # (B, C)
        target = one_hot(labels, cosine.shape[1]).bool()
        logits = torch.where(target, with_margin(cosine, self.margin, plain=self.plain), cosine)
        return cross_entropy(self.scale * logits, labels)
