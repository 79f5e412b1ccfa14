"""Smooth-AP: average precision with sigmoids in place of the steps of a rank."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protocols import dense
from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class SmoothAP(Method):
    """1 - AP, every image a query, in any order and with any number of images per class."""

    paper = "Brown et al., ECCV 2020, arXiv:2007.12163"
    temperature = Real(1e-3, 0.1, default=0.01, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        return [Term(self.smooth_ap)]

    def smooth_ap(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over queries that have a positive, 0 without any.

        As in the released code the query is among its own positives, at the top of its list.
        """
        z = normalize(embeddings)
        s = z @ z.T  # (B, B)
        same = labels[:, None] == labels  # (B, B)
        eye = torch.eye(len(z), dtype=torch.bool, device=z.device)
        # (query, i, j): how far j stands before i; a (B, B, B) tensor
        ahead = torch.sigmoid((s[:, None, :] - s[:, :, None]) / self.temperature)
        ahead = ahead.masked_fill(eye, 0.0)
        rank = 1 + ahead.sum(2)  # (B, B)
        rank_in_class = 1 + (ahead * same[:, None, :]).sum(2)
        ap = (rank_in_class / rank * same).sum(1) / same.sum(1)  # (B,)
        return dense.missed(ap, same.sum(1) > 1, embeddings)
