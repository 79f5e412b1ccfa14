"""Group Loss: class memberships of a batch refine each other along feature similarity."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot, relu

from protocols.method import Batch, Method, Term, TrainSpec
from protocols.phases import Phase
from protocols.space import Choice, Integer, Real, Settings


class Group(Method):
    """Replicator dynamics on the batch, with a classifier that only training needs.

    The warm start classifies for the first part of the budget: 10 of 80 epochs as released.
    There it came before the counted epochs, at a rate of its own and without augmentation; here
    it is part of every method's one budget and pipeline. Recipe ``group`` is how the rest was
    trained.
    """

    paper = "Elezi et al., ECCV 2020, arXiv:1912.00385"
    published: ClassVar[Mapping[str, Settings]] = MappingProxyType(
        {
            "cub200": {"temperature": 24.0, "anchors": 2, "classifier_lr": 1.5636637e-4},
            "cars196": {"temperature": 79.0, "anchors": 3, "classifier_lr": 2e-4},
            "sop": {"temperature": 54.0, "anchors": 2, "classifier_lr": 6.0776511e-4},
        }
    )
    temperature = Real(1.0, 100.0, default=24.0, log=True)
    anchors = Integer(1, 3, default=2)  # labelled samples of each class in a batch
    iterations = Integer(1, 3, default=1)
    ce_weight = Choice((1.0, 0.0), default=1.0)
    classifier_lr = Real(1e-6, 1.0, default=1e-2, log=True)
    warm_start = Choice((0.125, 0.0), default=0.125)  # share of the budget that only classifies

    @classmethod
    def phases(cls, settings: Settings, steps: int, steps_per_epoch: int) -> Sequence[Phase]:
        """Return the one change of phase: from the warm start to the group loss."""
        return (Phase("group loss", math.ceil(float(settings["warm_start"]) * steps)),)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the classifier."""
        loss = GroupLoss(
            spec.classes,
            spec.embedding_size,
            temperature=self.temperature,
            anchors=self.anchors,
            iterations=self.iterations,
            ce_weight=self.ce_weight,
        )
        return [Term(loss, lr=self.classifier_lr)]

    def graph_key(self, batch: Batch) -> bool:
        """Return whether the warm start is over."""
        return batch.step >= self.warm_start * self.spec.steps

    def losses(self, views: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the loss; in the warm start the classifier's alone, under the same name."""
        if self.graph_key(batch):
            return super().losses(views, batch)
        (term,) = self._terms()
        assert isinstance(term.loss, GroupLoss)
        return {term.name: term.loss.classify(views["embedding"].float(), batch.labels)}


class GroupLoss(nn.Module):
    """Negative log of the refined membership plus cross entropy, on raw embeddings.

    Source: Elezi et al. 2020, section 3; details as its released code runs them: prior over
    all training classes, Pearson similarity cut at 0 with its diagonal kept, mean over all
    rows, cross entropy on logits without temperature.
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        temperature: float,
        anchors: int,
        iterations: int = 1,
        ce_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding_size, classes)
        self.temperature, self.anchors = temperature, anchors
        self.iterations, self.ce_weight = iterations, ce_weight

    def classify(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () cross entropy alone."""
        return cross_entropy(self.classifier(embeddings), labels)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () loss of (B, D) raw embeddings; float32 throughout."""
        logits = self.classifier(embeddings)  # (B, C)
        prior = memberships(logits / self.temperature, labels, self.anchors)
        refined = refine(prior, similarity(embeddings), self.iterations)
        truth = refined.gather(1, labels[:, None]).squeeze(1)
        group = -(truth + 1e-12).log().mean()
        return group + self.ce_weight * cross_entropy(logits, labels)


def memberships(logits: Tensor, labels: Tensor, anchors: int) -> Tensor:
    """Return the prior (B, C): softmax, but one-hot for the first ``anchors`` of each class."""
    same = labels[:, None] == labels  # (B, B)
    labelled = same.tril(-1).sum(1) < anchors  # how many of the class came before
    known = one_hot(labels, logits.shape[1]).to(logits.dtype)
    return torch.where(labelled[:, None], known, logits.softmax(1))


def similarity(features: Tensor) -> Tensor:
    """Return Pearson correlations (B, B) cut at 0, with 1 on the diagonal."""
    z = normalize(features - features.mean(1, keepdim=True))
    w = relu(z @ z.T)
    # A constant row correlates with nothing, itself included; the 1 keeps its prior alive.
    eye = torch.eye(len(w), dtype=w.dtype, device=w.device)
    return w * (1 - eye) + eye


def refine(prior: Tensor, w: Tensor, iterations: int) -> Tensor:
    """Return memberships (B, C) after so many replicator steps; rows sum to 1."""
    x = prior
    for _ in range(iterations):
        x = x * (w @ x)
        x = x / x.sum(1, keepdim=True)
    return x
