"""The states of torch's generators that a training draws from: the host's, and its device's."""

from __future__ import annotations

import torch
from torch import Tensor


def states(device: torch.device) -> list[Tensor]:
    """Return the states of the host's generator and, on a GPU, of the device's.

    While a step is recorded a device's can be neither read nor set, so it is left out.
    """
    found = [torch.random.get_rng_state()]
    if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
        found.append(torch.cuda.get_rng_state(device))
    return found


def restore(device: torch.device, found: list[Tensor]) -> None:
    """Give the generators the states that :func:`states` returned."""
    torch.random.set_rng_state(found[0])
    for state in found[1:]:
        torch.cuda.set_rng_state(state, device)
