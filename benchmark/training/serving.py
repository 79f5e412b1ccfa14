"""Whether a trunk can serve a method: with the edits that the method wants, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol as Interface

import torch

from benchmark.study.folder import CellKey
from protocols.discovery import Registry
from protocols.errors import InvalidInputError
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
        with torch.no_grad():
            height, width = trunk.eval()(torch.zeros(1, 3, *extent)).map.shape[2:]
        trunk.train()
        if height * width <= 1:
            raise InvalidInputError(
                f"method {job.cell.method!r} needs a feature map; trunk {name!r} leaves "
                f"{height} x {width} of {extent[0]} x {extent[1]} px. Choose a protocol with "
                "larger images"
            )
    return trunk
