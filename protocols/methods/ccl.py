"""CCL: a softmax over class centres, and the squared distance to one's own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class CenterContrastive(Method):
    """Large-margin softmax over learned centres plus a pull to one's own.

    With s_c the cosine to centre c and y the sample's class, the mean over samples of::

        cross entropy of scale * (s_c - margin [c = y])  +  pull * (2 - 2 s_y)

    The last factor is the squared distance to the own centre. Without margin and pull it is
    ``nsoftmax`` at a temperature of 1 / scale; with the margin alone it is ``cosface``.

    No source at hand states scale, margin and pull. The defaults are those of a public
    re-implementation, (16, 0, 2); another has (64, 0.2, 1). All three are searched down to where
    the softmax is flat and the pull is gone.
    """

    paper = "Cai, Xiong and Tian 2023, arXiv:2308.00458"
    draws = "classes"
    scale = Real(1.0, 128.0, default=16.0, log=True)
    margin = Real(0.0, 0.5, default=0.0)
    pull = Real(0.0, 8.0, default=2.0)
    centre_lr = Real(1e-6, 1.0, default=1e-2, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the centres."""
        loss = CenterContrastiveLoss(
            spec.classes,
            spec.embedding_size,
            scale=self.scale,
            margin=self.margin,
            pull=self.pull,
        )
        return [Term(loss, lr=self.centre_lr)]


class CenterContrastiveLoss(nn.Module):
    """Softmax over cosines to centres and the distance to one's own; centres start N(0, 1)."""

    def __init__(
        self, classes: int, embedding_size: int, *, scale: float, margin: float, pull: float
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, embedding_size))
        self.scale, self.margin, self.pull = scale, margin, pull

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () mean over (B, D) embeddings; a label without a centre raises."""
        s = normalize(embeddings) @ normalize(self.weight).T  # (B, C)
        own = one_hot(labels, s.shape[1]).to(s.dtype)
        softmax = cross_entropy(self.scale * (s - self.margin * own), labels)
        squared = 2 - 2 * (s * own).sum(1)  # (B,)
        return softmax + self.pull * squared.mean()
