"""Recording a training step once, so that a GPU plays it back without asking Python again.

Only the tensors that a step reads and writes are live in a recording; what Python decided stays
decided. :func:`obstacle` looks for what would then go wrong before anything is recorded.
"""

from __future__ import annotations

import copy
import math
import random
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from typing import Protocol as Interface
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.broken import out_of_memory, spent_by
from protocols.errors import in_words
from protocols.method import Batch, Method
from protocols.network import Network

Compute = Callable[[], None]
# Attributes of a module that the runner sets, or that may change without changing a step.
OWN = {"training", "drawn", "_map_size"}


OF_THE_HOST = {f.name for f in fields(Batch)} - {"labels", "index", "partner", "share"}


class Recorder(Interface):
    """What records a computation on one kind of device."""

    def record(self, compute: Compute) -> Compute:
        """Return what does ``compute`` again on the same tensors; nothing is computed yet."""
        ...

    def strict(self) -> AbstractContextManager[None]:
        """Return a context in which waiting for the device raises RuntimeError."""
        ...


class CudaRecorder:
    """CUDA graphs on the current stream, which must not be the default one.

    All graphs share one pool of memory: they are played one after the other, in the order in which
    they were recorded where one reads what another wrote, and what outlives a step (weights,
    optimiser state, sums) is never allocated while one is recorded. A recording that failed may
    have left its pool open, so the next one gets another; and torch refuses a pool whose graphs are
    all gone while anything still lies in it.
    """

    def __init__(self) -> None:
        self._pool: Any = None  # of the graphs below
        self._graphs = WeakSet[torch.cuda.CUDAGraph]()  # while they are used

    def record(self, compute: Compute) -> Compute:
        """Return the replay of ``compute``."""
        if not self._graphs:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=stream):
                compute()
        except BaseException:  # whatever it was, the pool may be open
            self._graphs.clear()
            raise
        self._graphs.add(graph)
        return graph.replay

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Make a wait an error."""
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():  # torch warns that not every wait is found
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


class Watched(Batch):
    """A batch that notes which of its values on the host were read."""

    def __getattribute__(self, name: str) -> Any:
        if name in OF_THE_HOST:
            object.__getattribute__(self, "__dict__").setdefault("read", set()).add(name)
        return object.__getattribute__(self, name)


def watched(batch: Batch) -> Watched:
    """Return ``batch`` with its readers watched."""
    return Watched(**{f.name: object.__getattribute__(batch, f.name) for f in fields(batch)})


def obstacle(
    network: Network,
    losses: Callable[[Network, Batch], dict[str, Tensor]],
    batch: Batch,
    recorder: Recorder,
) -> str | None:
    """Return why a step cannot be recorded, in words, or None.

    Forward and backward are rehearsed once on a copy of the network, so nothing moves.

    Args:
        network: after some ordinary steps, so that whatever is made at first use exists.
        losses: computes the terms of a batch with a network, from tensors at fixed places.
        batch: of that computation.
        recorder: says what a wait is.

    Raises:
        RuntimeError: the device broke.
    """
    try:
        rehearsed = copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        _raise_if_broken(error)
        return f"the network cannot be copied ({first_line(error)})"
    seen, states = watched(batch), host_generators()
    before = held(rehearsed)
    try:
        with recorder.strict():
            found = losses(rehearsed, seen)
            torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError) as error:
        _raise_if_broken(error)
        if out_of_memory(error):
            return f"there is no memory to rehearse it ({first_line(error)})"
        return f"it waits for the device{_place(error)} ({first_line(error)})"
    finally:
        moved = not _same(states, host_generators())
        put_back(states)
    if moved:
        return "it draws at random on the host and has no noise()"
    if "read" in vars(seen) and type(network.method).graph_key is Method.graph_key:
        return f"it reads batch.{', batch.'.join(sorted(vars(seen)['read']))} without graph_key()"
    changed = changes(before, held(rehearsed))
    return f"it changes {min(changed)} on the host" if changed else None


def _raise_if_broken(error: BaseException) -> None:
    """Raise ``error`` where it says that the device is broken: that is no obstacle to get round."""
    if spent_by(error) in ("broken", "recording"):
        raise error


@dataclass
class State:
    """Copies of all that a step writes: to go back, and to compare."""

    tensors: list[Tensor]
    kept: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kept = [tensor.detach().clone() for tensor in self.tensors]

    def restore(self) -> None:
        """Give every tensor its kept value, in place."""
        with torch.no_grad():
            for tensor, value in zip(self.tensors, self.kept, strict=True):
                tensor.copy_(value)

    def apart_from(self, other: State, before: State) -> float:
        """Return the largest difference to ``other``, relative to what a step changed.

        0 for equal bits. Each tensor counts by its length: |a - b| / |b - before|, and infinitely
        where that is no number.
        """
        worst = 0.0
        for a, b, start in zip(self.kept, other.kept, before.kept, strict=True):
            if not torch.equal(a, b):
                gap = (a.double() - b.double()).norm()
                step = (b.double() - start.double()).norm()
                apart = float(gap / step) if step > 0 else math.inf
                worst = max(worst, math.inf if math.isnan(apart) else apart)
        return worst


def host_generators() -> tuple[Any, ...]:
    """Return the states of the host's random generators that anything may draw from."""
    return torch.random.get_rng_state(), np.random.get_state(), random.getstate()


def put_back(states: tuple[Any, ...]) -> None:
    """Give the host's random generators the states that :func:`host_generators` returned."""
    torch.random.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


def _same(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Return whether no generator moved."""
    legacy = zip(before[1], after[1], strict=True)
    return (
        torch.equal(before[0], after[0])
        and all(np.array_equal(a, b) for a, b in legacy)
        and before[2] == after[2]
    )


def held(network: nn.Module) -> dict[str, Any]:
    """Return the plain values and the places of tensors that a network's modules hold."""
    found: dict[str, Any] = {}
    for name, module in network.named_modules():
        for word, value in vars(module).items():
            if word not in OWN and not word.startswith(("_backward", "_forward", "_is_full")):
                found[f"{name}.{word}".lstrip(".")] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """Return what of ``value`` can be compared: numbers, words, and where tensors lie."""
    if isinstance(value, Tensor):
        return ("tensor", value.data_ptr(), tuple(value.shape))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if not isinstance(v, nn.Module)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return type(value).__name__


def holds_tensor(value: Any) -> bool:
    """Return whether there is a tensor in a value that :func:`held` found."""
    if isinstance(value, (dict, list)):
        return any(map(holds_tensor, value.values() if isinstance(value, dict) else value))
    return isinstance(value, tuple)


def changes(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the names of what :func:`held` found changed."""
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def _place(error: BaseException) -> str:
    """Return where in a method or a loss an error arose, as `` at FILE:LINE``."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(part in f.filename for part in ("/torch/", __file__))]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def first_line(error: BaseException) -> str:
    """Return the type and the first line of an error, shortened."""
    return in_words(error).partition("\n")[0][:160]
