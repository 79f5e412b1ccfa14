"""Images described by their likeness to the means of the training classes."""

import torch
from torch import Tensor

from protocols.methods._closed_form import ClosedForm, class_means, principal


class NearestClassMean(ClosedForm):
    """Embed by the cosines to the class means, the head of a nearest class mean classifier.

    Classes to be found are none of those in training, so there is no nearest mean to predict. What
    carries over is the classifier's output as a description: two images are alike if they are
    alike in how near they are to each training class. With x minus the training mean and u_c the
    unit vector from that mean to the mean of class c, the description is the vector of all u_c . x.

    It has as many numbers as there are classes, and at most as many independent ones as channels.
    Kept are its leading principal axes, as many as the protocol's embedding has; with all of them
    the angles are those of the whole description.

    Source: Mensink, Verbeek, Perronnin and Csurka, "Distance-based image classification:
    generalizing to new classes at near-zero cost", TPAMI 2013 (the classifier); Torresani, Szummer
    and Fitzgibbon, "Efficient object category recognition using classemes", ECCV 2010 (outputs for
    other classes as a description).
    """

    paper = "Mensink et al., TPAMI 2013; Torresani et al., ECCV 2010"

    def fitted(self, centred: Tensor, labels: Tensor) -> Tensor:
        """Return the right singular vectors of the unit class means, times their values.

        With u = P Q R^T the description u x has the dot products of Q R^T x.
        """
        unit = torch.nn.functional.normalize(class_means(centred, labels), eps=1e-300)
        values, vectors = principal(unit.T @ unit)
        return vectors * values.sqrt()
