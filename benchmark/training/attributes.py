"""What a network keeps in plain Python beside its state dict, for a training that is interrupted.

A method may count, remember or switch in attributes that no state dict names. What of it changed
since the training began is written down where it is plain data. All that can be reached has a
digest, so that a network which was built anew and given its state back can be compared with the
one that stopped. Where something cannot be looked into, such as a generator, nothing is believed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping
from functools import _lru_cache_wrapper
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.training.walk import OPAQUE, Walk
from protocols.network import Network

Digests = dict[str, str]
Plain = tuple[str, Any]
NUMPY, PYTHON = "numpy's generator", "Python's generator"
# What a state dict holds, and what a step on a device sets and takes away again.
_HELD = {"_parameters", "_buffers", "_modules", "drawn"}
_LIBRARIES = ("torch", "pytorch_metric_learning", "builtins", "abc", "typing", "protocols.method")
_CODE = (type, ModuleType, property, classmethod, staticmethod, _lru_cache_wrapper)
_SEVERAL: dict[type, str] = {list: "list", tuple: "tuple", set: "set"}


class NotPlainError(Exception):
    """A value that cannot be written down as plain data; the message says which, and why."""


def digests(network: Network) -> Digests:
    """Return a digest of all that a training may change beside the state dict, by its place.

    The places are ``module.attribute``, data of a method's class and file, and the generators of
    numpy and Python.
    """
    held = _held(network)
    return {place: Walk(held).digest(value) for place, value, _ in _everything(network)}


def changed(network: Network, before: Digests) -> tuple[dict[str, Plain], Digests]:
    """Return what changed since ``before`` as plain data, and the digests now.

    Raises:
        NotPlainError: something cannot be looked into, or changed and cannot be written down.
    """
    held, now, moved = _held(network), Digests(), dict[str, tuple[Any, set[int]]]()
    holders: dict[int, str] = _storages(network)
    for place, value, ours in _everything(network):
        walk = Walk(held)
        now[place] = walk.digest(value)
        if now[place] == OPAQUE:
            raise NotPlainError(f"{place} cannot be looked into")
        if now[place] != before.get(place):
            if not ours:
                raise NotPlainError(f"{place} was changed, and is no attribute of a module")
            moved[place] = value, walk.places
        else:
            holders.update(dict.fromkeys(walk.places, place))
    if gone := before.keys() - now.keys():
        raise NotPlainError(f"{min(gone)} was removed")
    kept, owners = dict[str, Plain](), dict[int, str]()
    for place, (value, places) in moved.items():
        if places and id(value) in owners:  # one object in two attributes
            kept[place] = "same", owners[id(value)]
            continue
        owners[id(value)] = place
        if shared := places & holders.keys():
            other = holders[min(shared)]
            raise NotPlainError(f"{place} was changed, and {other} holds part of it too")
        holders.update(dict.fromkeys(places, place))
        try:
            kept[place] = plain(value)
        except NotPlainError as error:
            raise NotPlainError(f"{place} was changed, and holds {error}") from None
    return kept, now


def restore(network: Network, kept: Mapping[str, Plain]) -> None:
    """Give back what :func:`changed` has written down."""
    modules, device = dict(network.named_modules()), next(network.parameters()).device
    made: dict[str, Any] = {}
    for place, value in kept.items():
        made[place] = new = made[value[1]] if value[0] == "same" else unplain(value)
        if place == NUMPY:
            np.random.set_state(new)
        elif place == PYTHON:
            random.setstate(new)
        else:
            module, _, name = place.rpartition(".")
            setattr(modules[module], name, new.to(device) if isinstance(new, Tensor) else new)


def other(network: Network, kept: Mapping[str, Plain], digests_then: Digests) -> str:
    """Return the first place that is not what it was when ``digests_then`` were made, or "".

    A generator of numpy or Python that was not kept is not compared: each process has its own.
    """
    passed = {NUMPY, PYTHON} - kept.keys()
    now = digests(network)
    places = [place for place in {**digests_then, **now} if place not in passed]
    return next((p for p in places if now.get(p) != digests_then.get(p)), "")


def plain(value: Any) -> Plain:
    """Return a value in a form that torch reads back without running code.

    Raises:
        NotPlainError: it is of another kind.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return "value", value
    if kind is Tensor and not value.requires_grad:
        return "tensor", value
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        form = "array" if kind is np.ndarray else "number"
        return form, torch.from_numpy(np.array(value))
    if kind in _SEVERAL:
        return _SEVERAL[kind], [plain(one) for one in value]
    if kind is deque:
        return "deque", [value.maxlen, [plain(one) for one in value]]
    if kind is dict:
        return "dict", [(plain(key), plain(one)) for key, one in value.items()]
    raise NotPlainError(f"a {kind.__name__}, which is not plain data")


def unplain(kept: Plain) -> Any:
    """Return the value that :func:`plain` was given."""
    form, value = kept
    if form in ("array", "number"):
        return value.numpy() if form == "array" else value.numpy()[()]
    if form == "dict":
        return {unplain(key): unplain(one) for key, one in value}
    if form == "deque":
        return deque(map(unplain, value[1]), value[0])
    for kind, name in _SEVERAL.items():
        if form == name:
            return kind(map(unplain, value))
    return value


def _held(network: Network) -> dict[int, str]:
    """Return the names of modules and of what the state dict holds, by id."""
    found: dict[int, str] = {id(module): name for name, module in network.named_modules()}
    found |= {id(parameter): name for name, parameter in network.named_parameters()}
    lasting = network.state_dict(keep_vars=True)
    return found | {id(tensor): name for name, tensor in lasting.items()}


def _storages(network: Network) -> dict[int, str]:
    """Return which of the state dict's tensors lies at an address."""
    state = network.state_dict()
    return {t.untyped_storage().data_ptr(): name for name, t in state.items() if t.numel()}


def _everything(network: Network) -> Iterator[tuple[str, Any, bool]]:
    """Yield place, value, and whether :func:`restore` can give it back."""
    for name, module in network.named_modules():
        for word, value in vars(module).items():
            if word not in _HELD:
                yield f"{name}.{word}", value, True
        for word in sorted(module._non_persistent_buffers_set):
            yield f"{name}.{word}", module._buffers[word], True
    yield NUMPY, np.random.get_state(), True
    yield PYTHON, random.getstate(), True
    for name, parameter in network.named_parameters():
        yield f"parameter {name}", (parameter.requires_grad, tuple(parameter.shape)), False
    for place, value in _code_data(type(network.method)):
        yield place, value, False


def _code_data(method: type) -> Iterator[tuple[str, Any]]:
    """Yield what the classes of a method, and the files that they stand in, hold as data."""
    files: dict[str, Mapping[str, Any]] = {}
    for cls in method.__mro__:
        if not cls.__module__.startswith(_LIBRARIES):
            for name, value in _data(vars(cls)):
                yield f"class {cls.__qualname__}: {name}", value
            functions = [one for one in vars(cls).values() if isinstance(one, FunctionType)]
            files |= {one.__module__: one.__globals__ for one in functions}
    for file, names in files.items():
        for name, value in _data(names):
            yield f"file {file}: {name}", value


def _data(names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what may hold something among the names of a class or file."""
    for name, value in names.items():
        if not (name.startswith("__") or name == "_abc_impl" or isinstance(value, _CODE)):
            yield name, value
