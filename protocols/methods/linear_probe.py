"""A linear head on a frozen trunk, trained as a normalized softmax classifier."""

from protocols.methods.nsoftmax import NormalizedSoftmax


class LinearProbe(NormalizedSoftmax):
    """Train the linear embedding alone: what a trunk's features hold that one layer can use.

    Budget, batches, crops and search are those of any method. The trunk stays as it was loaded, in
    eval mode, so what this row lacks to one that trains the trunk is what training it gains.

    Source: Alain and Bengio, "Understanding intermediate layers using linear classifier probes",
    2016, arXiv:1610.01644.
    """

    paper = "Alain and Bengio 2016, arXiv:1610.01644; loss: arXiv:1811.12649"
    paper_name = ""
    trunk = "frozen"
