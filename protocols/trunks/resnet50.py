"""ResNet-50, 224 px: 2048 channels; the papers' weights are IMAGENET1K_V1."""

from __future__ import annotations

from typing import Any

from protocols.trunks._torchvision import Torchvision, load
from protocols.weights import Weights


class ResNet50(Torchvision):
    """He et al. 2016, arXiv:1512.03385, with the stride in the 3x3 convolution."""

    network = "resnet50"
    last = "layer4"
    channels = 2048

    def set_last_stride(self, stride: int) -> None:
        """Set the stride of the last stage: 1 gives a map of twice the height and width."""
        first: Any = self.net.get_submodule("layer4.0")
        first.conv2.stride = first.downsample[0].stride = (stride, stride)


def build(weights: Weights = None) -> ResNet50:
    """Return the trunk with ``weights``, or at random from torch's current generator."""
    return load(ResNet50(), weights)
