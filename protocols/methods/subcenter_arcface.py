"""Sub-center ArcFace: several vectors per class, the nearest one speaks for it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from protocols.method import Method, Term, TrainSpec
from protocols.methods._angles import with_margin
from protocols.space import Choice, Real


class SubCenterArcFace(Method):
    """ArcFace on the largest cosine of each class; outliers are not dropped."""

    paper = "Deng et al., ECCV 2020"
    draws = "classes"
    margin = Real(0.0, 90.0, default=28.6)  # degrees
    scale = Real(0.01, 300.0, default=64.0)
    centres = Choice((2, 3, 5), default=3)
    weight_lr = Real(1e-6, 1.0, default=1e-2, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the class vectors."""
        loss = SubCenterArcFaceLoss(
            spec.classes,
            spec.embedding_size,
            centres=self.centres,
            margin=self.margin,
            scale=self.scale,
        )
        return [Term(loss, lr=self.weight_lr)]


class SubCenterArcFaceLoss(nn.Module):
    """Additive angular margin over sub-centres; their vectors start N(0, 1)."""

    def __init__(
        self, classes: int, embedding_size: int, *, centres: int, margin: float, scale: float
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, centres, embedding_size))
        self.margin, self.scale = math.radians(margin), scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () mean over the batch; a label without a vector raises."""
        w = normalize(self.weight, dim=2)  # (C, K, D)
        cosine = torch.einsum("bd,ckd->bck", normalize(embeddings), w).amax(2)  # (B, C)
        target = one_hot(labels, cosine.shape[1]).bool()
        logits = torch.where(target, with_margin(cosine, self.margin), cosine)
        return cross_entropy(self.scale * logits, labels)
