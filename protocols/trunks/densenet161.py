"""DenseNet-161, 224 px: 2208 channels."""

from __future__ import annotations

from protocols.trunks._densenet import DenseNet
from protocols.trunks._torchvision import load
from protocols.weights import Weights


class DenseNet161(DenseNet):
    """Huang et al. 2017, arXiv:1608.06993."""

    network = "densenet161"
    channels = 2208


def build(weights: Weights = None) -> DenseNet161:
    """Return the trunk with ``weights``, or at random from torch's current generator."""
    return load(DenseNet161(), weights)
