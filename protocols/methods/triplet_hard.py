"""Batch-hard triplet loss, hinge or soft margin, on raw or unit embeddings."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import normalize, relu, softplus

from protocols.method import Method, Term, TrainSpec
from protocols.methods._batch_hard import batch_hard, mean_or_zero
from protocols.space import Choice, Real


class TripletHard(Method):
    """Each anchor's farthest positive against its nearest negative, mean over anchors.

    The defaults are the paper's TriNet; recipe ``trinet`` is how it was trained.
    """

    paper = "arXiv:1703.07737"
    soft = Choice((True, False), default=True)  # softplus(v) in place of max(0, margin + v)
    margin = Real(0.0, 1.0, default=0.2)  # of the hinge only
    unit = Choice((False, True), default=False)  # the paper leaves embeddings unnormalised
    hidden = Choice((True, False), default=True)  # a layer before the embedding, as published

    def make_head(self, spec: TrainSpec) -> nn.Module:
        """Return a linear layer, or the paper's two with 1024 between for an embedding of 128."""
        if not self.hidden:
            return super().make_head(spec)
        width = 8 * spec.embedding_size
        norm = nn.BatchNorm1d(width, eps=1e-5, momentum=0.1)
        last = nn.Linear(width, spec.embedding_size)
        nn.init.orthogonal_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Linear(spec.channels, width), norm, nn.ReLU(), last)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term; raw embeddings are also ranked raw."""
        self.normalize_embeddings = self.unit
        return [Term(self.batch_hard)]

    def batch_hard(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over anchors that have a positive and a negative, 0 without any."""
        v, anchors = batch_hard(normalize(embeddings) if self.unit else embeddings, labels)
        hinge = softplus(v) if self.soft else relu(self.margin + v)
        return mean_or_zero(hinge, anchors, embeddings)
