"""Plugin files for tests of models."""

DISTILLED = '''"""distilled: a head that follows a frozen teacher while it trains."""
import torch
from torch import nn
from protocols.method import Method, Term


class Distilled(Method):
    """A method with state that no embedding needs."""

    def __init__(self, spec, **settings):
        super().__init__(spec, **settings)
        self.master = nn.Sequential(nn.Linear(spec.channels, spec.embedding_size), nn.Tanh())
        self.master.requires_grad_(False)

    def make_terms(self, spec):
        return [Term(self.follow, on=("embedding", "lesson"))]

    def forward(self, features):
        views = {"embedding": self.head(features.vector)}
        if self.training:
            with torch.no_grad():
                views["lesson"] = self.master(features.vector)
        return views

    def follow(self, embeddings, lessons, labels):
        return (embeddings - lessons).square().mean()
'''
