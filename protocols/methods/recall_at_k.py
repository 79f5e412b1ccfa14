"""Recall@k surrogate: how many positives stand among the first k, with sigmoids for steps."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protocols import dense
from protocols.method import Method, Term, TrainSpec
from protocols.space import Integer, Real


class RecallAtK(Method):
    """1 - recall, mean over k = 1, 2, 4, ... and over queries.

    The loss alone: the paper's batches of 4000 and its mixing of embeddings are not part of it.
    """

    paper = "Patel, Tolias and Matas, CVPR 2022, arXiv:2108.11179"
    temperature = Real(1e-3, 0.1, default=0.01, log=True)  # of the ranks; that of k is 1
    levels = Integer(1, 5, default=5)  # how many values of k, from 1 in powers of 2

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        return [Term(self.missed_recall)]

    def missed_recall(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over queries that have a positive, 0 without any.

        As in the released code the query itself stands in its list, before every positive.
        """
        z = normalize(embeddings)
        s = z @ z.T  # (B, B)
        eye = torch.eye(len(z), dtype=torch.bool, device=z.device)
        positive = (labels[:, None] == labels) & ~eye  # (B, B)
        # (query, i, j): how far j stands before i; a (B, B, B) tensor
        ahead = torch.sigmoid((s[:, None, :] - s[:, :, None]) / self.temperature)
        rank = 1 + ahead.masked_fill(eye, 0.0).sum(2)  # (B, B)
        recalls = []
        for k in (2**level for level in range(self.levels)):
            hits = (torch.sigmoid(k - rank) * positive).sum(1).clamp(max=k)  # (B,)
            recalls.append(hits / positive.sum(1).clamp(min=1, max=k))
        return dense.missed(torch.stack(recalls).mean(0), positive.any(1), embeddings)
