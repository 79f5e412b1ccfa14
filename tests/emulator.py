"""Recorded steps without a GPU: what a CUDA graph does and refuses, played on the CPU.

While a step is recorded every operation is written down with the very tensors it took. A replay
does the operations again on these tensors, in their places, and asks Python nothing: a number
that Python worked out, or a random draw of the host, is frozen as it is on a GPU. What would make
the host wait for a device raises.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.training.graphs import State

WAITS = {
    *("aten._local_scalar_dense.default", "aten.equal.default", "aten.is_nonzero.default"),
    *("aten.nonzero.default", "aten.nonzero_numpy.default", "aten.masked_select.default"),
    *("aten._unique2.default", "aten.unique_dim.default", "aten.unique_consecutive.default"),
    "aten.repeat_interleave.Tensor",
}
BY_INDEX = ("aten.index.", "aten.index_put", "aten._index_put")


class Refusing(TorchDispatchMode):
    """Raises where the host of a GPU would wait."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.refuse(str(func), args)
        return func(*args, **(kwargs or {}))

    def refuse(self, name: str, args: tuple[Any, ...]) -> None:
        if name in WAITS:
            raise RuntimeError(f"called a synchronizing operation: {name}")
        if name.startswith(BY_INDEX) and any(
            part is not None and part.dtype in (torch.bool, torch.uint8) for part in args[1]
        ):
            raise RuntimeError(f"called a synchronizing operation: {name} by a mask")


class Tape(Refusing):
    """Writes down each operation, its tensors and where its results lie."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(func, types, args, kwargs)
        kwargs = kwargs or {}
        places = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        fresh = [
            (number, t)
            for number, t in enumerate(tree_leaves(out))
            if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in places
        ]
        views = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if not views:
            self.calls.append((func, args, kwargs, fresh))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, fresh in self.calls:
            found = tree_leaves(func(*args, **kwargs))
            for number, place in fresh:
                if place.numel():
                    place.detach().copy_(found[number])


class Emulator:
    """A recorder for the CPU.

    Recording runs the step, which a GPU would not: everything that ``written`` returns is put
    back afterwards.
    """

    def __init__(self) -> None:
        self.written: Callable[[], list[Tensor]] = list
        self.recorded = 0

    def record(self, compute: Callable[[], None]) -> Callable[[], None]:
        before = State(self.written())
        with Tape() as tape:
            compute()
        # A GPU would not have written, so autograd must not hear of it either.
        with torch.autograd._unsafe_preserve_version_counter(tuple(before.tensors)):
            before.restore()
        self.recorded += 1
        return tape.replay

    @contextmanager
    def strict(self) -> Iterator[None]:
        try:
            with Refusing():
                yield
        except RuntimeError as error:
            raise error.with_traceback(_without_this_file(error)) from None


def _without_this_file(error: RuntimeError) -> TracebackType | None:
    """Return the way to ``error`` without the emulator's end of it: torch's code is no frame."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        if frame.tb_next.tb_frame.f_code.co_name == "__torch_dispatch__":
            frame.tb_next = None
            break
        frame = frame.tb_next
    return error.__traceback__


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Do what torch's does on a GPU, where it does not look at the labels."""
    return (labels[..., None] == torch.arange(classes, device=labels.device)).long()


def as_on_a_device(monkeypatch) -> None:
    """Let losses take the forms that they take off the CPU."""
    from protocols import dense

    monkeypatch.setattr(dense, "on_host", lambda tensor: False)
    for family in ("torch.optim.rmsprop", "torch.optim.radam"):
        monkeypatch.setattr(
            sys.modules[family], "_get_capturable_supported_devices", lambda *_, **__: ["cpu"]
        )
    monkeypatch.setattr("protocols.optimizer.GRAPHS", {"cpu"})
    for name, module in list(sys.modules.items()):
        if name.startswith("protocols.") and hasattr(module, "one_hot"):
            monkeypatch.setattr(module, "one_hot", one_hot)
