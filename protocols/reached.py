"""Which parameters a result depends on, as seen from outside: nobody declares them wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes where in memory every tensor lies that an operation reads."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for value in tree_leaves((args, kwargs or {})):
            if isinstance(value, Tensor):
                self.places.add(value.untyped_storage().data_ptr())
        return func(*args, **(kwargs or {}))


def reached(module: nn.Module, output: Callable[[], Tensor]) -> list[nn.Parameter]:
    """Return the parameters of ``module`` that ``output()`` depends on, in the module's order.

    They are those that autograd writes down. A method may cut the gradient, as a linear probe on
    detached features does; then those that ``output()`` reads and whose loss would change it
    count too. Without all other parameters the output would be the same.
    """
    parameters = list(module.parameters())
    found = _by_gradient(parameters, output)
    with torch.no_grad(), Reads() as reads:
        whole = output()
    rest = [
        p
        for p in parameters
        if id(p) not in found and p.untyped_storage().data_ptr() in reads.places
    ]
    if rest and not torch.equal(_without(rest, output), whole):
        found |= {id(p) for p in rest}
    return [p for p in parameters if id(p) in found]


def _by_gradient(parameters: list[nn.Parameter], output: Callable[[], Tensor]) -> set[int]:
    """Return the ids of those that autograd meets on its way back from ``output()``."""
    frozen = [p for p in parameters if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)  # or autograd would not write it down
    with torch.enable_grad():
        start = output().grad_fn
    for parameter in frozen:
        parameter.requires_grad_(False)
    seen: set[object] = set()
    waiting = [start]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return {id(getattr(node, "variable", None)) for node in seen}


@torch.no_grad()
def _without(some: list[nn.Parameter], output: Callable[[], Tensor]) -> Tensor:
    """Return ``output()`` with parameters that are no numbers; they are as before afterwards."""
    kept = [p.detach().clone() for p in some]
    for parameter in some:
        parameter.fill_(torch.nan)
    found = output()
    for parameter, value in zip(some, kept, strict=True):
        parameter.copy_(value)
    return found
