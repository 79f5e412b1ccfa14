"""Combination of multiple global descriptors: sum, maximum and generalised mean, side by side."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from protocols.method import Features, Method, Term, TrainSpec, Wants
from protocols.methods._batch_hard import batch_hard, mean_or_zero
from protocols.methods._classify import Classify
from protocols.space import Choice, Real

GEM_POWER = 3.0  # fixed
LEAST = 1e-6  # smaller values are raised to it before their powers are averaged
COMBINATIONS = ("S", "M", "G", "SM", "MS", "SG", "GS", "MG", "GM", "SMG", "MSG", "GSM")


class Combined(Method):
    """Unit descriptors joined and ranked by batch-hard triplets; the first is classified too.

    The descriptors share the embedding's dimensions evenly: 768 each of the paper's 1536.
    """

    paper = "Jun et al. 2019, arXiv:1903.10663"
    wants = Wants(last_stride=1, map=True, nonnegative=True)
    descriptors = Choice(COMBINATIONS, default="SG")
    margin = Real(0.0, 1.0, default=0.1)
    temperature = Real(0.1, 2.0, default=0.5, log=True)  # of the classifier
    smoothing = Real(0.0, 0.3, default=0.1)

    def make_head(self, spec: TrainSpec) -> nn.Module:
        """Return one linear layer without bias for each descriptor."""
        sizes = split(spec.embedding_size, len(self.descriptors))
        return nn.ModuleList(nn.Linear(spec.channels, size, bias=False) for size in sizes)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the two terms, each of weight 1; the classifier is the second's."""
        classify = Classify(
            spec.channels,
            spec.classes,
            smoothing=self.smoothing,
            temperature=self.temperature,
            norm=True,
        )
        return [Term(self.rank, name="rank"), Term(classify, on="first", name="class")]

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return ``embedding`` (B, D), of length 1, and in training the raw ``first`` (B, C)."""
        described = [DESCRIBE[name](features.map) for name in self.descriptors]
        layers = zip(self.head.children(), described, strict=True)
        joined = torch.cat([normalize(layer(row)) for layer, row in layers], dim=1)
        views = {"embedding": joined / len(described) ** 0.5}
        return {**views, "first": described[0]} if self.training else views

    def rank(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the batch-hard hinge, mean over all anchors, zeros included."""
        v, anchors = batch_hard(embeddings, labels)
        return mean_or_zero(relu(v + self.margin), anchors, embeddings)


def gem(feature_map: Tensor, power: float = GEM_POWER) -> Tensor:
    """Return the generalised mean (B, C) of a map (B, C, H, W): 1 is the mean, inf the maximum."""
    return feature_map.clamp(min=LEAST).pow(power).mean(dim=(2, 3)).pow(1 / power)


def split(size: int, parts: int) -> list[int]:
    """Return ``parts`` whole numbers with sum ``size``, as equal as can be, large ones first."""
    return [size // parts + (k < size % parts) for k in range(parts)]


DESCRIBE: dict[str, Callable[[Tensor], Tensor]] = {
    "S": lambda feature_map: feature_map.mean(dim=(2, 3)),
    "M": lambda feature_map: feature_map.amax(dim=(2, 3)),
    "G": gem,
}
