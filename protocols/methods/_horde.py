"""HORDE: the same loss on higher-order moments of the local features, in training only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from protocols.errors import PluginError
from protocols.method import Features, Method, ParameterGroup, TrainSpec
from protocols.space import Choice, Integer


class HighOrder(Method):
    """Moments of orders 2 to K; name this class first among the bases of the method to regularise.

    What that method says of the embedding then holds for every moment too, with weight 1, and
    with parameters of its own where a loss has some. The embedding stays as it was, and in eval
    mode there are no moments.
    """

    paper = "Jacob et al., ICCV 2019, arXiv:1908.02735"
    paper_name = ""  # the Reality Check has no such row, whatever the loss
    orders = Integer(2, 5, default=5)  # K
    trainable = Choice((True, False), default=True)  # or random signs, and no layer after them
    expansion = Choice((8,), default=8)  # width of a moment in channels: 8192 at 1024

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if cls.losses is not Method.losses:
            raise PluginError(
                f"{cls.__name__}: moments repeat the terms of a method, and this one computes "
                "losses() itself; HORDE serves methods that only state terms"
            )
        cls.wants = replace(super().wants, map=True)

    def __init__(self, spec: TrainSpec, **settings: object) -> None:
        super().__init__(spec, **settings)  # first: head and terms start as without moments
        width = self.expansion * spec.channels
        size = spec.embedding_size if self.trainable else width
        self.moments = Moments(
            spec.channels, width, self.orders, spec.embedding_size if self.trainable else None
        )
        for order in range(2, self.orders + 1):
            for term in self.make_terms(replace(spec, embedding_size=size)):
                if "embedding" in term.on:
                    name = f"moment{order}"
                    term.on = tuple(name if view == "embedding" else view for view in term.on)
                    term.name = f"{name}/{term.name}"
                    self.terms.append(term)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return the method's views and, in training, unit ``moment2`` (B, D) and so on."""
        views = super().forward(features)
        return {**views, **self.moments(features.map)} if self.training else views

    def groups(self) -> list[ParameterGroup]:
        """Return the method's groups, and one of the moments' parameters unless frozen."""
        own = [p for p in self.moments.parameters() if p.requires_grad]
        return super().groups() + ([ParameterGroup("moments", own)] if own else [])


class Moments(nn.Module):
    """Pooled moments of local features through cascaded random Maclaurin projections.

    The k-th is the mean over locations of (W_1 x) * ... * (W_k x), element by element: each
    order multiplies one more projection into the one before. With random signs, inner products
    of such vectors, divided by their width, estimate those of the k-fold tensor powers.

    Args:
        channels: C of the map.
        width: of a projection.
        orders: K, the highest.
        size: of the layer without bias after each moment; None for frozen signs without one.

    Source: Jacob et al. 2019, section 3; starting values as the released code has them.
    """

    def __init__(self, channels: int, width: int, orders: int, size: int | None) -> None:
        super().__init__()
        self.projections, self.embeddings = nn.ParameterList(), nn.ModuleList()
        for _ in range(orders):
            if size is None:
                signs = torch.randint(2, (width, channels)).float() * 2 - 1
                self.projections.append(nn.Parameter(signs, requires_grad=False))
            else:
                weight = nn.Parameter(torch.empty(width, channels))
                self.projections.append(nn.init.xavier_uniform_(weight))
        for _ in range(orders - 1 if size is not None else 0):
            layer = nn.Linear(width, size or width, bias=False)
            nn.init.xavier_uniform_(layer.weight)
            self.embeddings.append(layer)

    def pooled(self, feature_map: Tensor) -> Iterator[Tensor]:
        """Yield the moments (B, width) of orders 2 to K of a map (B, C, H, W)."""
        x = feature_map.flatten(2).transpose(1, 2)  # (B, L, C)
        first, *others = self.projections
        product = x @ first.T  # (B, L, width)
        for projection in others:
            product = product * (x @ projection.T)
            yield product.mean(1)

    def forward(self, feature_map: Tensor) -> dict[str, Tensor]:
        """Return unit views ``moment2`` to ``momentK``."""
        found = {}
        for number, moment in enumerate(self.pooled(feature_map)):
            # A fifth power can be too large to be squared; its length is dropped anyway.
            scale = moment.detach().abs().amax(1, keepdim=True).clamp(min=1e-12)
            row = moment / scale
            row = self.embeddings[number](row) if self.embeddings else row
            found[f"moment{number + 2}"] = normalize(row)
        return found
