"""The trunk's pooled features, whitened with shrinkage."""

import torch
from torch import Tensor

from protocols.methods._closed_form import ClosedForm, covariance, principal
from protocols.space import Real


class Whitened(ClosedForm):
    """Project on the leading principal axes and make their variances alike.

    With covariance S of the fold's training images, its eigenvalues l and their mean
    t = trace(S) / channels, an axis is divided by sqrt((1 - a) l + a t). Shrinkage a = 0 is full
    whitening; a = 1 leaves the principal axes as they are, and with all of them the angles are
    those of ``centred``.

    Source: Jégou and Chum, "Negative evidences and co-occurrences in image retrieval: the benefit
    of PCA and whitening", ECCV 2012; Ledoit and Wolf, "A well-conditioned estimator for
    large-dimensional covariance matrices", 2004 (shrinkage towards t I).
    """

    paper = "Jégou and Chum, ECCV 2012"
    shrinkage = Real(1e-4, 1.0, default=0.1, log=True)

    def fitted(self, centred: Tensor, labels: Tensor) -> Tensor:
        """Return the principal axes, each divided by its shrunk standard deviation."""
        del labels
        values, vectors = principal(covariance(centred))
        shrunk = (1 - self.shrinkage) * values + self.shrinkage * values.mean()
        return vectors / shrunk.clamp(min=torch.finfo(shrunk.dtype).tiny).sqrt()
