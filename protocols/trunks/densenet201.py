"""DenseNet-201, 224 px: 1920 channels."""

from __future__ import annotations

from protocols.trunks._densenet import DenseNet
from protocols.trunks._torchvision import load
from protocols.weights import Weights


class DenseNet201(DenseNet):
    """Huang et al. 2017, arXiv:1608.06993."""

    network = "densenet201"
    channels = 1920


def build(weights: Weights = None) -> DenseNet201:
    """Return the trunk with ``weights``, or at random from torch's current generator."""
    return load(DenseNet201(), weights)
