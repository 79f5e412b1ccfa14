"""Inception v3, made for 299 px (75 at least): 2048 channels."""

from __future__ import annotations

from protocols.trunk import InputScale
from protocols.trunks._torchvision import NO_AUXILIARY, Torchvision, load
from protocols.weights import Weights


class InceptionV3(Torchvision):
    """Szegedy et al. 2016, arXiv:1512.00567.

    Its weights were trained on pixels in -1..1. torchvision converts ImageNet-normalised
    pixels to that inside the network; here they come so from the start.
    """

    network = "inception_v3"
    last = "Mixed_7c"
    cut = ("fc.", "AuxLogits.")
    options = NO_AUXILIARY
    channels = 2048
    scale = InputScale(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def build(weights: Weights = None) -> InceptionV3:
    """Return the trunk with ``weights``, or at random from torch's current generator."""
    return load(InceptionV3(), weights)
