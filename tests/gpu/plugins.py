"""Methods that a recorded step would freeze, and some that break what they run on."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from protocols.method import Method, Term


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


FROZEN = {
    Waits: "it waits for the device at plugins.py:",
    Hosts: "it waits for the device at plugins.py:",
    Draws: "it draws at random on the host and has no noise()",
    Reads: "it reads batch.step without graph_key()",
}
