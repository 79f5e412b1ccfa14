"""A network on its device, laid out and computed as is fastest there."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.training.device import layout
from protocols.network import Network

KERNEL = (3, 3)
MOST_PLANES = 4  # of an image: colours, and one of transparency
MOST_PLACES = 1 << 18  # of a batch: 64 images of 64 x 64 pixels, 28 MB of patches


class ImageConvolution(nn.Conv2d):
    """A convolution of images by 3 x 3 without bias; the gradient of its weights is one product.

    Of so few planes cuDNN's algorithms that give the same bits each time take that gradient through
    Fourier transforms of the whole batch, a quarter of a small trunk's step on a GPU. It is an
    ordinary convolution where the images want a gradient too, and for large batches, where the
    product was not measured and its patches would fill the card.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return what :class:`torch.nn.Conv2d` returns of (B, C, H, W), the same bits."""
        stride, padding = cast(tuple[int, int], self.stride), cast(tuple[int, int], self.padding)
        places = images.numel() // images.shape[1] // (stride[0] * stride[1])
        if images.requires_grad or not self.weight.requires_grad or places > MOST_PLACES:
            return super().forward(images)
        found: Tensor = _Convolution.apply(images, self.weight, stride, padding)
        return found


class _Convolution(torch.autograd.Function):
    """The convolution, and the gradient of its weights from patches of the images."""

    @staticmethod
    def forward(
        context: Any,
        images: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        context.save_for_backward(images)
        context.stride, context.padding = stride, padding
        return functional.conv2d(images, weight, None, stride, padding)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (images,), (gradient,) = context.saved_tensors, gradients
        high, wide = context.padding
        padded = functional.pad(images, (wide, wide, high, high))
        patches = padded.unfold(2, KERNEL[0], context.stride[0])
        patches = patches.unfold(3, KERNEL[1], context.stride[1])  # (B, C, H', W', 3, 3)
        rows = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
        planes = gradient.transpose(0, 1).flatten(1)  # (K, B x H' x W')
        found = (planes @ rows).view(len(planes), images.shape[1], *KERNEL)
        return None, found, None, None


def placed(network: Network, device: torch.device, precision: str) -> Network:
    """Return ``network`` itself, on ``device`` and ready for a protocol's precision there."""
    network = network.to(memory_format=layout(device, precision)).to(device)
    if device.type == "cuda" and precision == "fp32":
        lighten(network.trunk)
    return network


def lighten(trunk: nn.Module) -> None:
    """Make the convolutions of images among a trunk's modules :class:`ImageConvolution`."""
    for module in trunk.modules():
        if type(module) is nn.Conv2d and _of_images(module):
            module.__class__ = ImageConvolution


def _of_images(conv: nn.Conv2d) -> bool:
    plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    plain = plain and conv.bias is None and isinstance(conv.padding, tuple)
    return plain and conv.kernel_size == KERNEL and conv.in_channels <= MOST_PLANES
