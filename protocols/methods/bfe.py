"""Batch feature erasing (Batch DropBlock): a branch that sees the map with one block erased."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torchvision.models.resnet import Bottleneck  # type: ignore[import-untyped]

from protocols.method import Features, Method, Term, TrainSpec, Wants
from protocols.methods._batch_hard import batch_hard, mean_or_zero
from protocols.methods._classify import Classify
from protocols.space import Real


class BatchFeatureErasing(Method):
    """A global and an erased branch, each with batch-hard triplet and smoothed classification.

    A third of the embedding is the global branch's, the rest the other's: 512 + 1024 of the
    paper's 1536. Embeddings are ranked raw, as they were learnt.
    """

    paper = "Dai et al., ICCV 2019, arXiv:1811.07130"
    wants = Wants(last_stride=1, map=True)
    normalize_embeddings = False
    height = Real(0.2, 0.6, default=0.5)  # of the block, as a share of the map
    width = Real(0.2, 1.0, default=0.5)
    smoothing = Real(0.0, 0.3, default=0.1)
    _map_size: tuple[int, int] | None = None  # of the last map in training

    def make_head(self, spec: TrainSpec) -> nn.Module:
        """Return both branches."""
        return Branches(spec.channels, _sizes(spec))

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the four terms, each of weight 1; the classifiers are theirs."""
        found = []
        for view, size in _sizes(spec).items():
            found.append(Term(soft_batch_hard, on=view, name=f"{view}/triplet"))
            classify = Classify(size, spec.classes, smoothing=self.smoothing)
            start(classify)
            found.append(Term(classify, on=view, name=f"{view}/class"))
        return found

    def noise(self, rows: int) -> tuple[Tensor, ...]:
        """Return the corner of the block to erase, () as long as no map has been seen."""
        del rows
        if self._map_size is None:
            return ()
        return corner(*self._map_size, self.height, self.width)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return ``embedding`` (B, D) and, in training, its parts ``global`` and ``part``."""
        block = (self.height, self.width) if self.training else None
        if self.training:
            self._map_size = (features.map.shape[2], features.map.shape[3])
        parts: dict[str, Tensor] = self.head(features.map, block, self.drawn)
        embedding = torch.cat(list(parts.values()), dim=1)
        return {"embedding": embedding, **(parts if self.training else {})}


class Branches(nn.Module):
    """From a map (B, C, H, W) to the two parts of the embedding.

    Source: Dai et al. 2019, figure 2; sizes and starting values as the released code has them: it
    sets those of both reductions and leaves the bottleneck at torch's own.
    """

    def __init__(self, channels: int, sizes: dict[str, int]) -> None:
        super().__init__()
        reduce = nn.Linear(channels, sizes["global"])
        self.reduce = nn.Sequential(reduce, nn.BatchNorm1d(sizes["global"]), nn.ReLU())
        self.deepen = Bottleneck(channels, channels // Bottleneck.expansion)
        embed = nn.Linear(channels, sizes["part"])
        self.embed = nn.Sequential(embed, nn.BatchNorm1d(sizes["part"]), nn.ReLU())
        start(self.reduce)
        start(self.embed)
        # The code's layer is a 1 x 1 convolution of the pooled map, and starts as one.
        nn.init.kaiming_normal_(reduce.weight, mode="fan_in")

    def forward(
        self,
        feature_map: Tensor,
        block: tuple[float, float] | None = None,
        at: tuple[Tensor, ...] = (),
    ) -> dict[str, Tensor]:
        """Return ``global`` and ``part``; with ``block`` a rectangle of that share is erased.

        ``at`` says where its corner is; one is drawn if it does not.
        """
        deep = self.deepen(feature_map)
        if block is not None:
            deep = erase(deep, *block, at=at)
        whole = self.reduce(feature_map.mean(dim=(2, 3)))
        return {"global": whole, "part": self.embed(deep.amax(dim=(2, 3)))}


def corner(rows: int, columns: int, height: float, width: float) -> tuple[Tensor, Tensor]:
    """Return top and left () of a block of that share of a map, from torch's CPU generator."""
    high, wide = round(height * rows), round(width * columns)
    return torch.randint(rows - high + 1, ()), torch.randint(columns - wide + 1, ())


def erase(
    feature_map: Tensor, height: float, width: float, *, at: tuple[Tensor, ...] = ()
) -> Tensor:
    """Return the map (B, C, H, W) with one random rectangle 0 in every image and channel.

    Survivors are not rescaled. The rectangle's sides are rounded half to even (Python's
    ``round``: 2 of 5 rows at 0.5); every place where it fits is equally likely, from torch's
    current CPU generator unless ``at`` has the corner. 0 erases only where no value is below it:
    here after a ReLU.
    """
    rows, columns = feature_map.shape[2:]
    high, wide = round(height * rows), round(width * columns)
    top, left = (part.to(feature_map.device) for part in at or corner(rows, columns, height, width))
    y = torch.arange(rows, device=feature_map.device)[:, None] - top
    x = torch.arange(columns, device=feature_map.device) - left
    return feature_map * ~((y >= 0) & (y < high) & (x >= 0) & (x < wide))


def soft_batch_hard(part: Tensor, labels: Tensor) -> Tensor:
    """Return the mean soft-margin batch-hard triplet loss of raw (B, D) rows."""
    v, anchors = batch_hard(part, labels)
    return mean_or_zero(softplus(v), anchors, part)


def start(module: nn.Module) -> None:
    """Set starting values: Kaiming normal, BatchNorm scales near 1, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        bias = getattr(layer, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def _sizes(spec: TrainSpec) -> dict[str, int]:
    """Return how many dimensions of the embedding each branch gives."""
    whole = max(1, round(spec.embedding_size / 3))
    return {"global": whole, "part": spec.embedding_size - whole}
