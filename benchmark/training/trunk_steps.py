"""Steps whose trunk and head are recorded while the method's loss is computed anew in Python.

For a loss that cannot be recorded: it waits for the device, draws on the host, reads the step. The
way from images to views is one recording, the way back from the views' gradients to those of the
parameters another one. In between the loss sees copies of the views, like any other tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.training.feed import Feed
from benchmark.training.graphs import (
    Compute,
    Recorder,
    State,
    changes,
    held,
    holds_tensor,
    host_generators,
    obstacle,
    put_back,
)
from protocols.contract import losses_of
from protocols.method import Batch, Method
from protocols.network import Network

Views = dict[str, Tensor]
Forward = Callable[[Network], Views]
Parameters = dict[str, nn.Parameter]
Modes = tuple[list[bool], list[bool]]


@dataclass
class TrunkRecording:
    """A recorded way to the views and back, for one kind of step.

    Attributes:
        feed: inputs of the way to the views.
        forward: writes ``views``; without gradient, at fixed places.
        back: turns ``sent``, the gradients of views, into ``given``, those of parameters by name.
        reach: the names of the parameters that a view depends on, by the view's name.
        parameters: the network's, by name.
        modes: of the method's modules and parameters, as this was recorded.
        before: what the method held on the host before the last step.
        proofs: how often it must still prove itself.
        times: how often it had to again, after it was proven, because that had changed.
        moved: what of it had changed before the last step.
        free: what changes with each step, as two in a row have shown, and moves no view.
    """

    feed: Feed
    forward: Compute
    views: Views
    back: Compute
    sent: Views
    given: dict[str, Tensor]
    reach: dict[str, set[str]]
    parameters: Parameters
    modes: Modes
    before: dict[str, Any]
    proofs: int
    times: int = 0
    moved: set[str] = field(default_factory=set)
    free: set[str] = field(default_factory=set)

    def fits(self, method: Method, proofs: int) -> bool:
        """Return whether this may still be played, if it proves itself where ``proofs`` says so.

        What Python decided on the way to the views stays as it was when it was recorded. A number
        that changes now and then may come to matter at any change, so each change asks for
        ``proofs`` more. Where a tensor lies elsewhere, the recording would read the old place; and
        proofs do not show that other modules train or other parameters learn.
        """
        now = held(method)
        changed = changes(self.before, now) - self.free
        settled = self.moved - changed if self.proofs else changed
        if any(holds_tensor(at.get(name)) for name in settled for at in (self.before, now)):
            return False
        self.free |= changed & self.moved
        self.before, self.moved = now, changed - self.free
        if self.moved:
            self.times += not self.proofs
            self.proofs = proofs
        return self.modes == _modes(method)

    def gradients(self, method: Method, parameters: Parameters, batch: Batch) -> Views:
        """Return the loss terms of ``views``; all gradients are then in the parameters."""
        for parameter in parameters.values():
            parameter.grad = None
        losses, arrived = down(method, self.views, self.sent, batch)
        for name, place in self.sent.items():
            if name in arrived:
                place.copy_(arrived[name])
            else:
                place.zero_()
        self.back()
        for name in self._reached(arrived):
            parameter, given = parameters[name], self.given[name]
            if parameter.requires_grad:  # the loss may just have frozen it
                parameter.grad = given if parameter.grad is None else parameter.grad + given
        return losses

    def _reached(self, arrived: Collection[str]) -> Iterable[str]:
        """Return the parameters that get a gradient from the views that have one."""
        if len(arrived) == len(self.sent):
            return self.given
        some = set[str]().union(*(self.reach[name] for name in arrived))
        return (name for name in self.given if name in some)


@dataclass(frozen=True)
class Outcome:
    """What a step has computed before anything moves.

    Attributes:
        changed: gradients by parameter and loss terms by name.
        buffers: by name, after the loss.
    """

    changed: dict[str, Tensor]
    buffers: dict[str, Tensor]

    @classmethod
    def of(cls, network: Network, losses: Views) -> Outcome:
        """Return copies of what is there."""
        found = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        terms = {f"loss {name}": value for name, value in losses.items()}
        return cls(_copies({**found, **terms}), _copies(dict(network.named_buffers())))

    def apart_from(self, other: Outcome, before: dict[str, Tensor]) -> float:
        """Return the largest difference to ``other``, relative to what the step changes.

        0 for equal bits; infinite where one has what the other has not.

        Args:
            other: the ordinary step's.
            before: buffers before the step, by name.
        """
        if self.changed.keys() != other.changed.keys() or self.buffers.keys() != (
            other.buffers.keys()
        ):
            return float("inf")
        start = {n: torch.zeros_like(v) for n, v in other.changed.items()}
        start |= {n: before.get(n, torch.zeros_like(v)) for n, v in other.buffers.items()}
        names, found = list(start), {**self.changed, **self.buffers}
        wanted = {**other.changed, **other.buffers}
        if any(found[n].shape != wanted[n].shape for n in names):
            return float("inf")
        mine, theirs, zero = (State([of[n] for n in names]) for of in (found, wanted, start))
        return mine.apart_from(theirs, zero)


def record_trunk(
    network: Network, forward: Forward, batch: Batch, feed: Feed, recorder: Recorder, proofs: int
) -> TrunkRecording | None:
    """Return the recorded way to a network's views and back, None where it cannot be recorded.

    Args:
        network: after some ordinary steps; only what moves at this step needs gradients.
        forward: gives the views of a network from ``feed``.
        batch: with its tensors.
        feed: inputs, at fixed places.
        recorder: records.
        proofs: how often the recording must prove itself.

    Raises:
        RuntimeError: recording failed; and whatever a loss raises that cannot be computed from
            copies of the views.
    """
    if obstacle(network, lambda copied, _: _sums(forward(copied), batch), batch, recorder):
        return None
    arriving = _arriving(network, forward, batch)
    if arriving is None:
        return None
    network.zero_grad(set_to_none=True)
    modes = _modes(network.method)
    views: Views = {}
    to_views = recorder.record(lambda: views.update(forward(network)))
    needing = {name: view for name, view in views.items() if view.requires_grad}
    parameters = dict(network.named_parameters())
    names = {id(parameter): name for name, parameter in parameters.items()}
    reach = {name: _reached(view, names) for name, view in needing.items()}
    sent = {name: torch.zeros_like(arriving.get(name, view)) for name, view in needing.items()}

    def send() -> None:
        if needing:
            torch.autograd.backward([*needing.values()], [sent[name] for name in needing])

    back = recorder.record(send)
    given = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    views = {name: view.detach() for name, view in views.items()}
    before = held(network.method)
    return TrunkRecording(
        feed, to_views, views, back, sent, given, reach, parameters, modes, before, proofs
    )


def down(
    method: Method, views: Views, needing: Collection[str], batch: Batch
) -> tuple[Views, Views]:
    """Return loss terms and the gradients of views as they arrive there, both by name.

    The method's own parameters have theirs then. It gets copies of the views, so it may keep and
    change them.

    Args:
        method: has the loss.
        views: without gradient.
        needing: the names of those whose gradient is asked for.
        batch: of the views.
    """
    arrived: Views = {}
    copies = {name: view.detach().clone() for name, view in views.items()}
    for name in needing:
        # Laid out in memory as it arrives: products of matrices round by that.
        leaf: Any = copies[name].requires_grad_()
        leaf.register_hook(partial(arrived.__setitem__, name))
    losses = losses_of(method, dict(copies), batch)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    return losses, arrived


@contextmanager
def all_put_back(network: Network) -> Iterator[None]:
    """Give buffers, in place, and the host's random generators their values back at the end."""
    host, buffers = host_generators(), State(list(network.buffers()))
    try:
        yield
    finally:
        buffers.restore()
        put_back(host)


def _modes(method: Method) -> Modes:
    """Return which modules train and which parameters need a gradient."""
    return [m.training for m in method.modules()], [p.requires_grad for p in method.parameters()]


def _sums(views: Views, batch: Batch) -> Views:
    """Return terms whose gradient goes all ways back from the views."""
    start = {"": torch.zeros((), device=batch.labels.device, requires_grad=True)}
    return start | {n: v.float().sum() for n, v in views.items() if _learns(v)}


def _learns(view: object) -> bool:
    return isinstance(view, Tensor) and view.requires_grad


def _arriving(network: Network, forward: Forward, batch: Batch) -> Views | None:
    """Return the gradients that arrive at the views, None where views are not tensors alone.

    On a copy of the network; random generators of the host are as before.
    """
    states, copied = host_generators(), copy.deepcopy(network)
    try:
        views = forward(copied)
        if not all(isinstance(view, Tensor) for view in views.values()):
            return None
        needing = [name for name, view in views.items() if view.requires_grad]
        return down(copied.method, views, needing, batch)[1]
    finally:
        put_back(states)


def _reached(view: Tensor, names: dict[int, str]) -> set[str]:
    """Return the names of the parameters that autograd meets on its way back from ``view``."""
    seen: set[object] = set()
    waiting: list[Any] = [view.grad_fn]
    found = {names.get(id(view), "")}
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
            found.add(names.get(id(getattr(node, "variable", None)), ""))
    return found - {""}


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
