"""Linear discriminant analysis of the trunk's pooled features, with shrinkage."""

import torch
from torch import Tensor

from protocols.methods._closed_form import ClosedForm, class_means, covariance, principal
from protocols.space import Real


class LDA(ClosedForm):
    """Whiten what varies within classes, then keep the axes along which most variance is left.

    With covariance S of the fold's training images, S_w of their distances to their class means
    (both with divisor N) and t = trace(S_w) / channels, W = ((1 - a) S_w + a t I)^(-1/2), and the
    axes are W times the leading eigenvectors of W S W. These are the directions with the largest
    ratio of all variance to variance within classes. Fisher's, of the variance between classes,
    are at most the number of classes minus one; there are always enough of these.

    Shrinkage a decides: within-class variance is measured on few images and many channels. With
    a = 1 and all axes the angles are those of ``centred``. Where no class varies, W is I.

    Source: Fisher, "The use of multiple measurements in taxonomic problems", 1936; Friedman,
    "Regularized discriminant analysis", JASA 1989 (shrinkage towards t I).
    """

    paper = "Fisher 1936; Friedman, JASA 1989"
    shrinkage = Real(1e-3, 1.0, default=0.1, log=True)

    def fitted(self, centred: Tensor, labels: Tensor) -> Tensor:
        """Return W times the eigenvectors of W S W."""
        within = covariance(centred - class_means(centred, labels)[labels])
        whitener = _inverse_root(within, self.shrinkage)
        _, vectors = principal(whitener @ covariance(centred) @ whitener)
        return whitener @ vectors


def _inverse_root(matrix: Tensor, shrinkage: float) -> Tensor:
    """Return ((1 - a) M + a t I)^(-1/2) of a covariance M (C, C); I where M is 0."""
    mean = float(matrix.trace()) / len(matrix)
    if mean <= 0:
        return torch.eye(len(matrix), dtype=matrix.dtype)
    values, vectors = torch.linalg.eigh(matrix)  # (C,), (C, C)
    shrunk = (1 - shrinkage) * values.clamp(min=0) + shrinkage * mean
    root: Tensor = (vectors / shrunk.sqrt()) @ vectors.T
    return root
