"""Tensors at fixed places on a device, which the host fills without a wait."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SLOTS = 4  # steps that the host may be ahead of the device


class Feed:
    """Tensors at fixed places on a device, which the host fills before each step.

    Copies go through a ring of pinned memory, so that the host neither waits for the device nor
    writes over what is still on its way.
    """

    def __init__(self, like: Sequence[Tensor], device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.tensors = [torch.empty_like(part, device=device) for part in like]
        self._slots = [
            [torch.empty_like(part, device="cpu", pin_memory=pinned) for part in like]
            for _ in range(SLOTS)
        ]
        self._sent = [_event() if pinned else None for _ in range(SLOTS)]
        self._next = 0

    def fill(self, values: Sequence[Tensor]) -> None:
        """Send ``values`` on their way; they are there for what is started after this."""
        number, self._next = self._next, (self._next + 1) % SLOTS
        sent = self._sent[number]
        if sent is not None:
            sent.synchronize()  # done unless the host is far ahead
        for slot, value, tensor in zip(self._slots[number], values, self.tensors, strict=True):
            slot.copy_(value)
            tensor.copy_(slot, non_blocking=True)
        if sent is not None:
            sent.record()


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]
