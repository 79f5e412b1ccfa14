"""DenseNet-121, 224 px: 1024 channels."""

from __future__ import annotations

from protocols.trunks._densenet import DenseNet
from protocols.trunks._torchvision import load
from protocols.weights import Weights


class DenseNet121(DenseNet):
    """Huang et al. 2017, arXiv:1608.06993."""

    network = "densenet121"
    channels = 1024


def build(weights: Weights = None) -> DenseNet121:
    """Return the trunk with ``weights``, or at random from torch's current generator."""
    return load(DenseNet121(), weights)
