"""FastAP: average precision from soft histograms of distances."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protocols.method import Method, Term, TrainSpec
from protocols.methods._distances import squared_distances
from protocols.space import Integer


class FastAP(Method):
    """1 - AP over bins of squared distance in [0, 4], mean over anchors with a positive.

    The paper draws hard batches of two categories; here batches are the protocol's.
    """

    paper = "Cakir et al., CVPR 2019"
    paper_name = "fastap"
    bins = Integer(2, 250, default=10, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        return [Term(self.missed_ap)]

    def missed_ap(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over anchors that have a positive, 0 without any."""
        same = labels[:, None] == labels  # (B, B)
        others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = same & others
        weights = shares(squared_distances(normalize(embeddings)) * (self.bins / 4), self.bins)
        h = (weights * positive[..., None]).sum(1)  # (B, L + 1), positives at each centre
        above = h.cumsum(1)  # positives up to each centre
        total = (weights * others[..., None]).sum(1).cumsum(1)  # all up to each centre
        ap = (h * above / torch.where(total > 0, total, 1.0)).sum(1) / positive.sum(1).clamp(min=1)
        anchors = positive.any(1)
        return ((1 - ap) * anchors).sum() / anchors.sum().clamp(min=1)


def shares(x: Tensor, bins: int) -> Tensor:
    """Return how (B, B) values in [0, bins] divide between the centres 0 to bins, (B, B, bins + 1).

    Each value belongs to the two centres around it, the more to the nearer one.
    """
    # Not relu(1 - |x - centre|): in float32 that is flat where x is within 1e-7 of a centre, as
    # the distances of embeddings that have come close are, and their gradient would be lost.
    x = x.clamp(max=bins)
    lower = x.detach().floor().clamp(max=bins - 1)
    part = (x - lower)[..., None]
    centres = torch.arange(bins + 1, device=x.device) - lower[..., None]
    return torch.where(centres == 0, 1 - part, torch.where(centres == 1, part, 0.0))
