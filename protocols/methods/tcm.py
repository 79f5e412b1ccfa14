"""TCM: Multi-Similarity, and one pair of similarity thresholds for every class."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import normalize

from protocols import dense
from protocols.method import Term, TrainSpec
from protocols.methods.ms import MultiSimilarity
from protocols.space import Choice, Real


class ThresholdConsistent(MultiSimilarity):
    """Multi-Similarity plus the mean violation of two cosine thresholds.

    With s the cosine of a pair::

        Multi-Similarity + weight * mean of (m_plus - s) over positive pairs with s <= m_plus
                         + weight * mean of (s - m_minus) over negative pairs with s >= m_minus

    Each mean is 0 without such a pair. Thresholds are the same for all classes, so that one
    threshold can serve all of them at test time. MAP@R does not see that; only a metric of
    threshold consistency does.

    Defaults (0.9, 0.5, weight 1) are those of the authors' released code. The regulariser goes
    with any base loss; here it is Multi-Similarity with the settings of ``ms``. The library's
    ``ThresholdConsistentMarginLoss`` ignores the reference embeddings it is given, so it cannot
    stand behind a memory; this one is computed on the batch.
    """

    paper = "Zhang et al., ICLR 2024, arXiv:2307.04047"
    paper_name = ""  # the Reality Check has no such row
    m_plus = Real(0.5, 1.0, default=0.9)
    m_minus = Real(0.0, 0.8, default=0.5)
    weight = Choice((1.0,), default=1.0)  # of both means

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return Multi-Similarity's term and that of the thresholds."""
        thresholds = Term(self.thresholds, name="thresholds", weight=self.weight)
        return [*super().make_terms(spec), thresholds]

    def thresholds(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return both mean violations, a () tensor."""
        z = normalize(embeddings)
        s, (positive, negative) = z @ z.T, dense.pairs(labels)
        pull = dense.mean_of(self.m_plus - s, positive & (s <= self.m_plus))
        push = dense.mean_of(s - self.m_minus, negative & (s >= self.m_minus))
        return pull + push
