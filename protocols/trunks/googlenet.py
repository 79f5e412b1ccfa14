"""GoogLeNet with BatchNorm as ported from TensorFlow, 224 px: 1024 channels; not the LRN one."""

from __future__ import annotations

from protocols.trunk import InputScale
from protocols.trunks._torchvision import NO_AUXILIARY, Torchvision, load
from protocols.weights import Weights


class GoogLeNet(Torchvision):
    """Szegedy et al. 2015, arXiv:1409.4842.

    Its weights were trained on pixels in -1..1. torchvision converts ImageNet-normalised
    pixels to that inside the network; here they come so from the start.
    """

    network = "googlenet"
    last = "inception5b"
    cut = ("fc.", "aux1.", "aux2.")
    options = NO_AUXILIARY
    channels = 1024
    scale = InputScale(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def build(weights: Weights = None) -> GoogLeNet:
    """Return the trunk with ``weights``, or at random from torch's current generator."""
    return load(GoogLeNet(), weights)
