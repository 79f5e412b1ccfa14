"""ROADMAP: an upper bound of 1 - AP, and a calibration that makes batches comparable."""

from collections.abc import Sequence

import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.reducers import AvgNonZeroReducer
from torch import Tensor
from torch.nn.functional import normalize

from protocols import dense
from protocols.method import Method, Term, TrainSpec
from protocols.space import Real

TEMPERATURE, SLOPE, OFFSET, DELTA = 0.01, 100.0, 1.44, 0.05


class Roadmap(Method):
    """(1 - weight) SupAP + weight calibration; 0.5 is half the sum of the released code.

    All constants are those of the authors' released code, and so is what a wrong order costs, see
    :func:`overtaking`.
    """

    paper = "Ramzi et al., NeurIPS 2021, arXiv:2110.01445"
    weight = Real(0.0, 1.0, default=0.5)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the two terms; calibration keeps cosines above 0.9 or below 0.6."""
        calibration = ContrastiveLoss(
            pos_margin=0.9,
            neg_margin=0.6,
            distance=CosineSimilarity(),
            reducer=AvgNonZeroReducer(),
        )
        return [
            Term(sup_ap, name="sup_ap", weight=1 - self.weight),
            Term(calibration, name="calibration", weight=self.weight),
        ]


def sup_ap(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - AP from above, mean over queries that have a positive, 0 without any.

    Positives are counted exactly, without gradient; the query is among its own positives.
    """
    z = normalize(embeddings)
    s = z @ z.T  # (B, B)
    same = labels[:, None] == labels  # (B, B)
    eye = torch.eye(len(z), dtype=torch.bool, device=z.device)
    lead = s[:, None, :] - s[:, :, None]  # (query, i, j): by how much j stands before i
    rank_in_class = 1 + ((lead >= 0) & same[:, None, :] & ~eye).sum(2)  # (B, B)
    wrong = (overtaking(lead) * ~same[:, None, :]).sum(2)
    ap = (rank_in_class / (rank_in_class + wrong) * same).sum(1) / same.sum(1)  # (B,)
    return dense.missed(ap, same.sum(1) > 1, embeddings)


def overtaking(lead: Tensor) -> Tensor:
    """Return how much a negative adds to a positive's rank: at least the step, never flat.

    It grows with the lead, as in the released code: from 1.49 at a lead of 0.05 it jumps to 6.44
    and rises by 1 for each 0.01 from there. The paper's line starts where the curve before it
    ends: 100 (lead - 0.05) + sigmoid(0.05 / 0.01) + 0.5, which is 4.95 less.
    """
    soft = torch.sigmoid(lead / TEMPERATURE)
    steep = SLOPE * lead + OFFSET
    return torch.where(lead <= 0, soft, torch.where(lead <= DELTA, soft + 0.5, steep))
