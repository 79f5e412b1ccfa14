"""HIER: Proxy-Anchor, and a learned hierarchy of ancestors in the Poincare ball."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from protocols.method import Term, TrainSpec, Wants
from protocols.methods._ancestors import triplet_sum
from protocols.methods._hyperbolic import hyperbolic
from protocols.methods.proxy_anchor import ProxyAnchor
from protocols.space import Integer, Real, Settings

CURVATURE, CLIP = 0.1, 2.3  # of the ball
NEIGHBOURS = 20  # nearest points, own included, that can be reciprocal ones
TRIPLETS = 50  # of each anchor
ROWS = 64  # whose distances are computed at once
LARGE: Settings = {"ancestors": 512}  # of the authors' own runs
Noise = tuple[Tensor, Tensor]


class Hier(ProxyAnchor):
    """Proxy-Anchor by angle plus weight * (tree of the batch + tree of the ancestors).

    A learned ancestors stand in a ball of curvature 0.1; embeddings enter it cut to a length of
    2.3. Points are the batch, or the ancestors themselves. Two points are related if each is
    among the other's 20 nearest, points of one class nearest of all. For each point i, 50 times,
    j is drawn from its related points and k from the others. The ancestor of i and j is the one
    with the smallest larger distance, min over a of max(d_ia, d_ja), that of all three likewise,
    both chosen by a hard Gumbel-softmax at temperature 0.1. With u the ancestor of i and j, w that
    of all three and m = ``tree_margin``, the tree is the mean over all draws of::

        [d_iu - d_iw + m]+ + [d_ju - d_jw + m]+ + [d_kw - d_ku + m]+,   0 where u is w

    Defaults are those of the authors' released scripts: weight 0.5, margin 0.1, Proxy-Anchor 32
    and 0.1, two images of a class in a batch of 90, LayerNorm before the head, 512 ancestors on
    their datasets. Elsewhere 64 are the default, and there are never more than the training
    images less one, the inner nodes of a binary tree over them: time and noise of a step
    grow with 50 A^2 (on one core 0.01 s with 64, 0.5 s with 512). Of few points each relates to
    half of them at most.

    Where the released code differs: it draws triplets from numpy's global generator, an image can
    be drawn as its own negative, and it skips anchors with a single related point. Ancestors learn
    at 50 times the trunk's rate there and at the trunk's here, so the same setting moves the tree
    less; proxies learn at 10,000 times the trunk's there, at ``proxy_lr`` here. There every
    gradient of a point x in the ball, of both losses alike, is multiplied by ((1 - 0.1 |x|^2) /
    2)^2, most of which Adam takes back. Its LayerNorm has no weights and its linear layer starts
    orthogonal with a bias of 0; here LayerNorm has weights and the layer starts as torch starts it.

    It presumes a pretrained trunk: the authors train the head alone for 1 to 5 epochs. Weight is
    searched down to 0.05. Embeddings are ranked by angle, as after ``hyp``.
    """

    paper = "Kim, Jeong and Kwak, CVPR 2023"
    published: ClassVar[Mapping[str, Settings]] = MappingProxyType(
        {"cub200": LARGE, "cars196": LARGE, "sop": LARGE, "inshop": LARGE}
    )
    wants = Wants(images_per_class=2)
    weight = Real(0.05, 2.0, default=0.5, log=True)
    ancestors = Integer(16, 512, default=64, log=True)
    tree_margin = Real(0.0, 1.0, default=0.1)

    def make_head(self, spec: TrainSpec) -> nn.Module:
        """Return LayerNorm and a linear layer."""
        return nn.Sequential(nn.LayerNorm(spec.channels), super().make_head(spec))

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return Proxy-Anchor's term and that of the tree, which owns the ancestors."""
        tree = Tree(self.count(spec), spec.embedding_size, self.tree_margin, self.now)
        return [*super().make_terms(spec), Term(tree, name="tree", weight=self.weight)]

    def count(self, spec: TrainSpec) -> int:
        """Return A: a binary tree over the training images has no more inner nodes."""
        return max(2, min(self.ancestors, len(spec.labels) - 1))

    def noise(self, rows: int) -> tuple[Tensor, ...]:
        """Return what the triplets of both trees draw: of the batch, then of the ancestors."""
        count = self.count(self.spec)
        return (*draw(rows, count), *draw(count, count))

    def now(self, rows: int) -> tuple[Noise, Noise]:
        """Return the noise of this step, of each tree."""
        first, second, third, fourth = self.drawn or self.noise(rows)
        return (first, second), (third, fourth)


class Tree(nn.Module):
    """Loss of the batch's hierarchy and of the ancestors' own; they start inside the ball.

    Args:
        count: A, of the ancestors.
        embedding_size: D.
        margin: by which an ancestor of three lies farther from two of them.
        noise: gives what :func:`draw` draws for B points and for the ancestors, by B.
    """

    def __init__(
        self,
        count: int,
        embedding_size: int,
        margin: float,
        noise: Callable[[int], tuple[Noise, Noise]],
    ) -> None:
        super().__init__()
        start = torch.randn(count, embedding_size) / math.sqrt(embedding_size)
        self.ancestors = nn.Parameter(0.9 * CLIP * start)
        self.margin, self.noise = margin, noise

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () sum of both trees' losses on (B, D) embeddings."""
        batch, own = self.noise(len(labels))
        among = in_ball(embeddings.detach())
        near = (-among).exp() + (labels[:, None] == labels)
        found = tree_loss(in_ball(embeddings, self.ancestors), near, batch, self.margin)
        up = in_ball(self.ancestors)
        return found + tree_loss(up, (-up.detach()).exp(), own, self.margin)


def in_ball(rows: Tensor, others: Tensor | None = None) -> Tensor:
    """Return distances (A, B) in the authors' ball.

    Rows are taken some at a time, for a core's cache: the ancestors' own take 0.4 of the time.
    """
    others = rows if others is None else others
    parts = torch.split(rows, ROWS)
    return torch.cat([hyperbolic(part, others, curvature=CURVATURE, clip=CLIP) for part in parts])


def draw(points: int, ancestors: int) -> Noise:
    """Return what the triplets of so many points need, from torch's current CPU generator.

    Uniform numbers (2, points, TRIPLETS) pick the points j and k; Gumbel noise
    (2, points, TRIPLETS, ancestors) picks the ancestors of two and of three points.
    """
    even = torch.rand(2, points, TRIPLETS, ancestors)  # below 1, so both logarithms are finite
    gumbel = even.clamp_(min=torch.finfo(even.dtype).tiny).log_().neg_().log_().neg_()
    return torch.rand(2, points, TRIPLETS), gumbel


def tree_loss(d: Tensor, near: Tensor, noise: Noise, margin: float) -> Tensor:
    """Return the () mean over the drawn triplets, 0 without any.

    Args:
        d: (n, A) distances of points to ancestors.
        near: (n, n) similarities of points, without gradient; each is most similar to itself.
        noise: see :func:`draw`.
        margin: m.
    """
    uniform, gumbel = (part.to(d) for part in noise)
    related, others = relatives(near)
    j, k = picked(related, uniform[0]), picked(others, uniform[1])  # (n, T)
    able = related.any(1) & others.any(1)
    return triplet_sum(d, j, k, gumbel, able, margin) / (able.sum() * TRIPLETS).clamp(min=1)


def relatives(near: Tensor) -> tuple[Tensor, Tensor]:
    """Return the masks (n, n) of reciprocal neighbours and of all other points, itself in none."""
    count = min(NEIGHBOURS, max(2, len(near) // 2), len(near))
    seen = torch.zeros_like(near, dtype=torch.bool)
    seen = seen.scatter(1, near.topk(count, 1).indices, True)
    own = torch.eye(len(near), dtype=torch.bool, device=near.device)
    related = seen & seen.T
    return related & ~own, ~related & ~own


def picked(mask: Tensor, uniform: Tensor) -> Tensor:
    """Return for each row of ``mask`` (n, n) the columns (n, T) that ``uniform`` picks evenly.

    A row without an entry gives any column.
    """
    upto = mask.cumsum(1)  # how many entries there are up to each column
    place = (uniform * upto[:, -1:]).floor() + 1
    found = torch.searchsorted(upto.to(place.dtype), place)
    return found.clamp(max=mask.shape[1] - 1)
