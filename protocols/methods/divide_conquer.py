"""Divide and Conquer: clusters of the training images, each learning a slice of the embedding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from protocols.errors import InvalidInputError
from protocols.method import Batch, Draw, Features, Method, Probe, Term, TrainSpec
from protocols.methods._clusters import kmeans, renamed
from protocols.methods._margin import gumbel, margin_loss
from protocols.phases import Phase
from protocols.space import Choice, Real, Settings

APART = 8 / 19  # share of the divided epochs in which learners see their own slice only
# Of the authors' released code, which is made for SOP and In-Shop and samples the nearest only.
LARGE: Settings = {"learners": 8, "finetune": 0.95, "sampling": "nearest"}


class DivideConquer(Method):
    """Divide images and embedding among K learners, then join and fine-tune.

    Three phases by epoch: batches of a cluster train its slice; batches of a cluster train the
    whole embedding; ordinary batches train the whole. While a learner trains its slice, the rows
    of the others get a gradient of exactly 0; Adam's momentum and weight decay still move them,
    as in the reference.
    """

    paper = "Sanakoyeu et al., CVPR 2019, arXiv:1906.05990"
    published: ClassVar[Mapping[str, Settings]] = MappingProxyType({"sop": LARGE, "inshop": LARGE})
    compat: ClassVar[bool] = False  # rename clusters by the released code's transposed matching
    learners = Choice((1, 2, 4, 8), default=4)
    finetune = Real(0.2, 0.95, default=0.3)  # share of the budget after which all are one
    every = Choice((2,), default=2)  # epochs between clusterings
    boundary = Real(0.8, 1.5, default=1.2)
    margin = Real(0.05, 0.5, default=0.2)
    sampling = Choice(("distance", "nearest"), default="distance")

    def __init__(self, spec: TrainSpec, **settings: object) -> None:
        super().__init__(spec, **settings)
        self.clusters: Tensor
        self.register_buffer("clusters", torch.full((len(spec.labels),), -1))

    @classmethod
    def phases(cls, settings: Settings, steps: int, steps_per_epoch: int) -> Sequence[Phase]:
        """Return where learners see the whole embedding, and where they are joined."""
        if settings["learners"] == 1:
            return (Phase("joined", 0),)
        divided = divided_epochs(float(settings["finetune"]), steps, steps_per_epoch)
        whole, joined = (math.ceil(epoch) * steps_per_epoch for epoch in (APART * divided, divided))
        return (Phase("whole embedding", whole), Phase("joined", joined))

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term: learners share a loss that has nothing to learn."""
        return [Term(self.margin_loss)]

    def margin_loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the () margin loss of a learner's slice or of the whole."""
        return margin_loss(
            embeddings,
            labels,
            boundary=self.boundary,
            margin=self.margin,
            weighted=self.sampling == "distance",
            drawn=self.drawn,
        )

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return ``embedding`` (B, D): the learners' slices, each of length 1."""
        slices = self.split(self.head(features.vector))
        return {"embedding": torch.cat([normalize(part) for part in slices], dim=1)}

    def split(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Return the K slices of (B, D) rows, as equal as can be, wide ones first."""
        return torch.tensor_split(embedding, self.learners, dim=1)

    def losses(self, views: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the loss of the batch's learner, on its slice or on the whole."""
        (term,) = self._terms()
        whole, learner = views["embedding"], self.graph_key(batch)
        seen = whole if learner is None else self.split(whole)[learner]
        return {term.name: term({"embedding": seen}, batch.labels)}

    def graph_key(self, batch: Batch) -> int | None:
        """Return the learner whose slice alone is trained, None where the whole embedding is."""
        apart = batch.epoch < APART * self._divided_epochs()
        return batch.group if apart else None

    def noise(self, rows: int) -> tuple[Tensor, ...]:
        """Return what the draw of negatives by distance needs."""
        return (gumbel(rows),) if self.sampling == "distance" else ()

    def plan(self, epoch: int, probe: Probe, rng: np.random.Generator) -> Iterator[Draw] | None:
        """Return batches of one cluster after the other; ordinary ones once all are joined."""
        if self.learners == 1 or epoch >= self._divided_epochs():
            return None
        if epoch % self.every == 0:
            self.clusters.copy_(torch.from_numpy(self._divide(probe, rng)))
        return self._draws(self.clusters.cpu().numpy(), epoch, rng)

    def _divided_epochs(self) -> float:
        return divided_epochs(self.finetune, self.spec.steps, self.spec.steps_per_epoch)

    def _divide(self, probe: Probe, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return new clusters of the trunk's unit features, under the names of the old ones."""
        rows = normalize(torch.from_numpy(probe("vector")).double()).numpy()
        new, old = kmeans(rows, self.learners, rng), self.clusters.cpu().numpy()
        if old[0] < 0:
            return new
        return renamed(new, old, self.learners, transposed=self.compat)

    def _draws(
        self, clusters: NDArray[np.int64], epoch: int, rng: np.random.Generator
    ) -> Iterator[Draw]:
        """Yield balanced batches without end, learner by learner in turn."""
        found = {k: members(clusters == k, self.spec.labels) for k in range(self.learners)}
        able = [k for k, classes in found.items() if len(classes) > 1]
        if not able:
            raise InvalidInputError(
                f"none of {self.learners} clusters has two classes with two images each: "
                "choose fewer learners"
            )
        per_class = self.spec.images_per_class
        wide = max(2, self.spec.batch_size // per_class)
        # An epoch goes on in the round where the one before it stopped.
        for turn in itertools.count(epoch * self.spec.steps_per_epoch):
            learner = able[turn % len(able)]
            classes = found[learner]
            chosen = some(np.arange(len(classes)), wide, rng)
            index = np.concatenate([some(classes[c], per_class, rng) for c in chosen])
            yield Draw(index, learner)


def divided_epochs(finetune: float, steps: int, steps_per_epoch: int) -> float:
    """Return how many epochs learners stay divided: a share of all, but the last is joined."""
    return min(finetune * steps / steps_per_epoch, math.ceil(steps / steps_per_epoch) - 1)


def members(inside: NDArray[np.bool_], labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the positions of each class inside a cluster, without classes of one image."""
    where = np.flatnonzero(inside)
    by_class = [where[labels[where] == c] for c in np.unique(labels[where])]
    return [index for index in by_class if len(index) > 1]


def some(values: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``count`` of ``values``, repeated only where there are too few, then evenly."""
    rounds = -(-count // len(values))
    return np.concatenate([rng.permutation(values) for _ in range(rounds)])[:count]
