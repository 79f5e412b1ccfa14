"""What a training cost in parameters and images, whatever the machine."""

from __future__ import annotations

from benchmark.training.fit import Fitted
from protocols.network import Network
from protocols.protocol import Protocol


def counts(protocol: Protocol, network: Network, fitted: Fitted, validated: int) -> dict[str, int]:
    """Return what a training cost in parameters and images, whatever the machine.

    Parameters trained have had a gradient. Images trained went forward and backward, beside them
    is what the protocol's own batches are in as many steps; images embedded went forward only, for
    validation, for what the method asked about its training images, for losses in two passes and
    through a teacher.
    """
    return {
        "parameters_trained": fitted.learnt,
        "parameters_deployed": sum(p.numel() for p in network.deployed(protocol.image.crop_px)),
        "images_trained": fitted.images_trained,
        "images_protocol": fitted.steps * protocol.batch_size,
        "images_embedded": validated * len(fitted.history) + fitted.images_forward,
    }
