"""Normalized softmax: cross entropy over cosines to one learned vector per class."""

from collections.abc import Sequence

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import NormalizedSoftmaxLoss
from pytorch_metric_learning.reducers import MeanReducer

from protocols.method import Method, Term, TrainSpec
from protocols.space import Real


class NormalizedSoftmax(Method):
    """A classifier of unit vectors without bias, sharpened by a temperature.

    This is the form that the Reality Check compares (arXiv:2003.08505): a batch has one image of a
    class, as the protocols that ship draw classes, and the head is a linear layer with a bias. The
    released code of Zhai and Wu draws 3 classes of 25 images (15 of 5 for SOP and In-Shop), and
    its head is LayerNorm without weights and a linear layer without a bias.
    """

    paper = "Zhai and Wu, BMVC 2019, arXiv:1811.12649"
    paper_name = "nsoftmax"
    draws = "classes"
    temperature = Real(0.01, 100.0, default=0.05, log=True)
    weight_lr = Real(1e-6, 1.0, default=1e-2, log=True)

    def make_terms(self, spec: TrainSpec) -> Sequence[Term]:
        """Return the one term, which owns the class vectors."""
        loss = NormalizedSoftmaxLoss(
            num_classes=spec.classes,
            embedding_size=spec.embedding_size,
            temperature=self.temperature,
            distance=CosineSimilarity(),
            reducer=MeanReducer(),
        )
        return [Term(loss, lr=self.weight_lr)]
