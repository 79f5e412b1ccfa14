"""HORDE as published: contrastive or binomial loss on the embedding and on its moments."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu, softplus

from protocols import dense
from protocols.method import Method, Term, TrainSpec
from protocols.methods._horde import HighOrder
from protocols.space import Choice, Real


class _Pairs(Method):
    """Losses on the cosines of all pairs of a batch."""

    loss = Choice(("contrastive", "binomial"), default="contrastive")
    boundary = Real(0.0, 1.0, default=0.5)  # cosine above which a negative counts

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        return [Term(self.contrastive if self.loss == "contrastive" else self.binomial)]

    def contrastive(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return half the mean (1 - s)^2 of positives plus half the mean of violated hinges."""
        s, positive, negative = _pairs(embeddings, labels)
        pull = dense.chosen((1 - s).square(), positive)
        push = dense.chosen(relu(s - self.boundary), negative)
        active = (push > 0).sum().clamp(min=1)
        return (pull.sum() / positive.sum().clamp(min=1) + push.sum() / active) / 2

    def binomial(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over anchors, as published, of their mean soft hinges."""
        s, positive, negative = _pairs(embeddings, labels)
        pull = softplus(-2 * (s - self.boundary)) * positive
        push = softplus(50 * (s - self.boundary)) * negative
        return (pull.sum(1) / _count(positive) + push.sum(1) / _count(negative)).sum()


class Horde(HighOrder, _Pairs):
    """The authors' losses, their sum over orders 1 to K."""


def _pairs(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cosines (B, B) and the masks of positive and of negative pairs."""
    z = normalize(embeddings)
    same = labels[:, None] == labels
    others = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    return z @ z.T, same & others, ~same


def _count(mask: Tensor) -> Tensor:
    return mask.sum(1).clamp(min=1)
