"""Averaged weights, and BatchNorm statistics that fit them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Average:
    """The running mean of a network's parameters; buffers are those of the last one added.

    Attributes:
        count: how many were added.
        mean: their mean, by name.
    """

    def __init__(self, network: nn.Module) -> None:
        self.count = 0
        self.mean = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self._parameters = {name for name, _ in network.named_parameters()}

    def add(self, network: nn.Module) -> None:
        """Take the current weights in."""
        self.count += 1
        for name, value in network.state_dict().items():
            if name in self._parameters:
                self.mean[name] += (value.detach() - self.mean[name]) / self.count
            else:  # counters, cluster ids and statistics have no mean that makes sense
                self.mean[name] = value.detach().clone()

    def load_into(self, network: nn.Module) -> None:
        """Give ``network`` the averaged weights."""
        network.load_state_dict(self.mean)


@torch.no_grad()
def renew_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure anew the statistics of BatchNorm layers that are live; leave frozen ones alone.

    The network is put in training mode through its own policy, so layers that the policy keeps
    in eval mode are not touched (the library's ``update_bn`` resets those too and leaves them
    reset). The images are training batches: the distribution the raw statistics saw.

    Args:
        network: changed in place; mode and momenta are put back.
        batches: images (B, 3, H, W), consumed only if a layer is live.
    """
    mode = network.training
    network.train()
    live = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [layer.momentum for layer in live]
    for layer in live:
        layer.reset_running_stats()
    for count, images in enumerate(batches if live else (), start=1):
        for layer in live:
            layer.momentum = 1.0 / count  # a plain mean over all batches
        network(images)
    for layer, momentum in zip(live, momenta, strict=True):
        layer.momentum = momentum
    network.train(mode)
