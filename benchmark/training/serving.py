"""Whether a trunk can serve a method: with the edits that the method wants, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol as Interface

import torch

from benchmark.study.folder import CellKey
from protocols.discovery import Registry
from protocols.errors import InvalidInputError, PluginError
from protocols.method import Features
from protocols.protocol import Protocol
from protocols.trunk import Trunk


class Asking(Interface):
    """What of a job says which trunk it trains."""

    @property
    def cell(self) -> CellKey:
        """Return the job's cell."""
        ...

    @property
    def protocol(self) -> Protocol:
        """Return its protocol."""
        ...

    @property
    def plugins(self) -> tuple[Path, ...]:
        """Return the files that its names may come from."""
        ...

    @property
    def weights(self) -> Path | str | None:
        """Return the trunk's weights."""
        ...


def serving_trunk(job: Asking) -> Trunk:
    """Return the job's trunk with the edits its method wants, from torch's current generator.

    Raises:
        InvalidInputError: the trunk cannot serve the method; the message names both.
    """
    registry = Registry(job.plugins)
    name = job.cell.trunk.partition("+")[0]  # without the weights, which stand behind a plus
    trunk: Trunk = registry.load("trunk", name).build(job.weights)
    wants = registry.load("method", job.cell.method).wants
    trunk.honour(wants, job.cell.method)
    if wants.map:
        extent = job.protocol.image.crop_hw
        height, width = _shown(trunk, job.protocol).map.shape[2:]
        if height * width <= 1:
            raise InvalidInputError(
                f"method {job.cell.method!r} needs a feature map; trunk {name!r} leaves "
                f"{height} x {width} of {extent[0]} x {extent[1]} px. Choose a protocol with "
                "larger images"
            )
    return trunk


def stage_channels(trunk: Trunk, protocol: Protocol) -> tuple[int, ...]:
    """Return the channels of the stages that a trunk was asked for, () where none were.

    Raises:
        PluginError: it gives other stages than it agreed to.
    """
    if not trunk.stage_count:
        return ()
    stages = _shown(trunk, protocol).stages
    if len(stages) != trunk.stage_count or any(stage.ndim != 4 for stage in stages):
        met = [tuple(stage.shape) for stage in stages]
        raise PluginError(
            f"trunk {type(trunk).__name__} agreed to {trunk.stage_count} stages and gives {met}: "
            "expected as many maps (B, C, H, W), the last of them its map"
        )
    return tuple(stage.shape[1] for stage in stages)


def _shown(trunk: Trunk, protocol: Protocol) -> Features:
    """Return what a trunk makes of one black image of the protocol's size, in eval mode."""
    with torch.no_grad():
        features: Features = trunk.eval()(torch.zeros(1, 3, *protocol.image.crop_hw))
    trunk.train()
    return features
