"""Methods whose whole step a recording would freeze, so that their trunk alone is recorded."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, normalize

from benchmark.training.device_steps import PROOFS, WARM
from protocols.discovery import load
from protocols.method import Method, ParameterGroup, Term


class Plain(Method):
    """A loss that can be recorded."""

    def make_terms(self, spec):
        """Return the one term."""
        return [Term(self.loss)]

    def loss(self, embeddings, labels):
        """Return the mean squared error of cosines."""
        z = normalize(embeddings)
        return (z @ z.T - (labels[:, None] == labels).float()).square().mean()


class Waits(Plain):
    """Asks for a number."""

    def loss(self, embeddings, labels):
        """Return the loss times the embeddings' length."""
        return super().loss(embeddings, labels) * float(embeddings.detach().norm())


class Hosts(Plain):
    """Brings a tensor from the host."""

    def loss(self, embeddings, labels):
        """Return the loss times a number that comes from the host."""
        return super().loss(embeddings, labels) * torch.tensor([2.0]).to(embeddings.device).sum()


class Draws(Plain):
    """Draws on the host."""

    def loss(self, embeddings, labels):
        """Return the loss times a random number."""
        return super().loss(embeddings, labels) * torch.rand(())


class Reads(Plain):
    """Fades in."""

    def losses(self, views, batch):
        """Return the loss, which grows with the steps."""
        found = super().losses(views, batch)
        return {name: value * min(1.0, batch.step / 8) for name, value in found.items()}


class Picks(Plain):
    """Picks pairs by a mask, and learns a proxy for each class."""

    def __init__(self, spec, **settings):
        """Make the proxies."""
        super().__init__(spec, **settings)
        self.terms.proxies = torch.nn.Parameter(torch.randn(spec.classes, spec.embedding_size))

    def groups(self):
        """Return the head's parameters and the proxies."""
        return [*super().groups(), ParameterGroup("proxies", [self.terms.proxies], lr=1e-2)]

    def loss(self, embeddings, labels):
        """Return the mean cosine of the pairs of two classes, and a classification."""
        z = normalize(embeddings)
        others = (z @ z.T)[labels[:, None] != labels]
        return others.relu().mean() + cross_entropy(z @ self.terms.proxies.T, labels)


class Noisy(load("method", "bfe")):  # type: ignore[misc]
    """Drops parts of the map by noise on its way to the views, and waits in its loss."""

    def losses(self, views, batch):
        """Return the method's losses times a number that the host has asked for."""
        factor = float(views["embedding"].detach().norm() * 0 + 2)
        return {name: factor * value for name, value in super().losses(views, batch).items()}


class Freezes(Waits):
    """Freezes its head once its trunk's recording is proven, so that it is recorded anew."""

    def losses(self, views, batch):
        """Return the loss, without gradients of the head from one step on."""
        if batch.step == WARM + PROOFS + 1:
            self.head.requires_grad_(False)
        return super().losses(views, batch)


class Schedules(Waits):
    """Reads a number that changes once its trunk's recording is proven."""

    scale = 1.0

    def losses(self, views, batch):
        """Return the loss times that number."""
        if batch.step == WARM + PROOFS + 1:
            self.scale = 0.5
        return {name: self.scale * value for name, value in super().losses(views, batch).items()}


FROZEN = {
    Picks: "it waits for the device at plugins.py:",
    Noisy: "it waits for the device at plugins.py:",
    Freezes: "it waits for the device at plugins.py:",
    Schedules: "it waits for the device at plugins.py:",
    Waits: "it waits for the device at plugins.py:",
    Hosts: "it waits for the device at plugins.py:",
    Draws: "it draws at random on the host and has no noise()",
    Reads: "it reads batch.step without graph_key()",
}
