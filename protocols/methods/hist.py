"""HIST: classes as normal distributions, and a network on the hypergraph that they span."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, leaky_relu, normalize, one_hot

from protocols.method import Features, Method, Term, TrainSpec
from protocols.space import Choice, Real, Settings

HIDDEN = 512  # units between both layers of the hypergraph's network


class Hist(Method):
    """Distribution loss plus classification by a two-layer hypergraph network.

    Each class c has a learned mean mu, used at length 1, and log-variances v, clamped to [0, 6].
    With x the unit embedding, M_ic = sum over dimensions of (x - mu_c)^2 / exp(v_c), the loss is::

        cross entropy of -tau M
        + weight * cross entropy of G leaky(BatchNorm(G (x' T1))) T2

    x' is the embedding behind its LayerNorm, as it is. The hypergraph has the batch as nodes and
    its classes as edges: H is 1 for an image's own class, else exp(-alpha M), and
    G = Dv^-1/2 H De^-1 H^T Dv^-1/2 with the degrees Dv of nodes and De of edges.

    Average and maximum of the map are added before the head, and LayerNorm without weights
    follows it, as in the authors' released code. From there are tau 32, alpha 0.9, weight 1, a
    rate of 0.1 for means and variances, ten times the trunk's for the network, 512 hidden units:
    its command for Cars. Those for CUB and SOP are published settings.

    Where the released code differs: it cuts log-variances that start around 0 by ReLU6, so half
    of them (50.4 %) never have a gradient, and here they start uniform in (0, 1); it drops
    images whose probability underflows to 0, which are the hardest ones; and its batches of 32
    are drawn from all images at random, where here they hold several images of each class (4 of 8
    classes, as the protocols that ship draw pairs), so a hypergraph has fewer and fuller edges.

    It presumes a pretrained trunk: the authors train the head alone for the first epoch.
    """

    paper = "Lim et al., CVPR 2022"
    published: ClassVar[Mapping[str, Settings]] = MappingProxyType(
        {
            "cub200": {"alpha": 1.1, "network_factor": 5.0},
            "sop": {"tau": 16.0, "alpha": 2.0, "distribution_lr": 1e-2},
        }
    )
    tau = Real(4.0, 64.0, default=32.0, log=True)
    alpha = Real(0.1, 4.0, default=0.9, log=True)
    weight = Real(0.1, 4.0, default=1.0, log=True)
    distribution_lr = Real(1e-6, 1.0, default=1e-1, log=True)
    network_factor = Choice((10.0, 5.0, 1.0), default=10.0)  # of the recipe's rate

    def make_head(self, spec: TrainSpec) -> nn.Module:
        """Return a linear layer and LayerNorm without weights."""
        size = spec.embedding_size
        return nn.Sequential(
            nn.Linear(spec.channels, size), nn.LayerNorm(size, elementwise_affine=False)
        )

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the term of the distributions, which owns them, and that of the network."""
        classes = Distributions(spec.classes, spec.embedding_size, self.tau)
        # It looks at the distributions through a function, so that only one term owns them.
        graph = Hypergraph(
            spec.classes, spec.embedding_size, alpha=self.alpha, distances=classes.distances
        )
        return [
            Term(classes, name="distributions", lr=self.distribution_lr),
            Term(graph, name="hypergraph", weight=self.weight, lr_factor=self.network_factor),
        ]

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return ``embedding`` (B, D) of the map's average plus its maximum."""
        pooled = features.map.mean(dim=(2, 3)) + features.map.amax(dim=(2, 3))
        return {"embedding": self.head(pooled)}


class Distributions(nn.Module):
    """Cross entropy over classes by squared Mahalanobis distance.

    Args:
        classes: C.
        embedding_size: D.
        tau: how sharp the softmax is.
    """

    def __init__(self, classes: int, embedding_size: int, tau: float) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.empty(classes, embedding_size))
        nn.init.kaiming_normal_(self.means, mode="fan_out")
        self.log_variances = nn.Parameter(torch.rand(classes, embedding_size))
        self.tau = tau

    def distances(self, embeddings: Tensor) -> Tensor:
        """Return M (B, C) of (B, D) embeddings."""
        x, mu = normalize(embeddings), normalize(self.means)
        precision = (-self.log_variances.clamp(0, 6)).exp()  # (C, D)
        # No root follows, so what rounding leaves of a difference does no harm.
        return x.square() @ precision.T - 2 * x @ (mu * precision).T + (mu**2 * precision).sum(1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () loss of (B, D) embeddings; a label without a distribution raises."""
        return cross_entropy(-self.tau * self.distances(embeddings), labels)


class Hypergraph(nn.Module):
    """Cross entropy of a two-layer network whose rows are averaged over hyperedges.

    Args:
        classes: C.
        embedding_size: D.
        alpha: how fast a class loses hold of an image with distance.
        distances: gives (B, C) distances of (B, D) embeddings.
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        alpha: float,
        distances: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(embedding_size, HIDDEN), nn.BatchNorm1d(HIDDEN)
        self.second = nn.Linear(HIDDEN, classes)
        self.alpha, self.distances = alpha, distances

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () loss of (B, D) embeddings."""
        graph = self.propagation(self.distances(embeddings), labels)
        hidden = leaky_relu(self.norm(graph @ self.first(embeddings)), 0.1)
        return cross_entropy(graph @ self.second(hidden), labels)

    def propagation(self, m: Tensor, labels: Tensor) -> Tensor:
        """Return G (B, B) of distances ``m`` (B, C)."""
        own = one_hot(labels, m.shape[1]).bool()
        # Classes that are not in the batch have empty columns: the shape stays whatever the labels.
        h = torch.where(own, 1.0, (-self.alpha * m).exp()) * own.any(0)
        nodes, edges = h.sum(1), h.sum(0).clamp(min=1)  # 1 or more each: the own class counts 1
        spread = nodes.rsqrt()[:, None] * h
        return spread / edges @ spread.T
