"""SNR contrastive: pairs compared by the noise one embedding adds to the other."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from protocols import dense
from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class SNR(Method):
    """Contrastive hinges on var(anchor - other) / var(anchor), each over its violated pairs.

    Unit embeddings, and a pull of their coordinates towards a sum of 0, as the Reality Check's
    code had it: today's library shows that pull the raw embeddings.
    """

    paper = "Yuan et al., CVPR 2019, arXiv:1904.02616; form of arXiv:2003.08505"
    paper_name = "snr"
    pos_margin = Real(0.0, 2.0, default=0.0)
    neg_margin = Real(0.0, 2.0, default=1.0)
    reg_weight = Real(0.0, 1.0, default=0.005)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term."""
        return [Term(self.contrastive)]

    def contrastive(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return both hinges and the regulariser, a () tensor."""
        z = normalize(embeddings)
        d = noise_to_signal(z)  # (B, B), row = anchor
        same = labels[:, None] == labels
        near = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
        pull = dense.chosen(d - self.pos_margin, near)
        push = dense.chosen(self.neg_margin - d, ~same)
        hinges = violated_mean(pull) + violated_mean(push)
        return hinges + self.reg_weight * z.sum(1).abs().mean()


def noise_to_signal(z: Tensor) -> Tensor:
    """Return var(row i - row j) / var(row i) over coordinates, (B, B)."""
    centred = z - z.mean(1, keepdim=True)
    noise = (centred[:, None] - centred).square().sum(-1)
    signal = centred.square().sum(1).clamp(min=1e-8)  # 0 for a row of equal coordinates
    return noise / signal[:, None]


def violated_mean(values: Tensor) -> Tensor:
    """Return the mean of the positive values, 0 if none is."""
    return relu(values).sum() / (values > 0).sum().clamp(min=1)
