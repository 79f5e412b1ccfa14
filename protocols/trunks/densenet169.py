"""DenseNet-169, 224 px: 1664 channels."""

from __future__ import annotations

from protocols.trunks._densenet import DenseNet
from protocols.trunks._torchvision import load
from protocols.weights import Weights


class DenseNet169(DenseNet):
    """Huang et al. 2017, arXiv:1608.06993."""

    network = "densenet169"
    channels = 1664


def build(weights: Weights = None) -> DenseNet169:
    """Return the trunk with ``weights``, or at random from torch's current generator."""
    return load(DenseNet169(), weights)
