"""A digest of any Python value: of what it is made of, in an order that is the same every time.

Containers and objects are looked into as pickle would, but nothing is written or run again. What
pickle refuses, such as a generator or an open file, has no digest.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor

OPAQUE = ""
_LEAVES = (type(None), bool, int, float, complex, str, bytes)
_TABLES = (dict, OrderedDict, MappingProxyType)
_NAMED = (type, ModuleType, BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)


class Walk:
    """One walk through one value.

    Args:
        held: names of objects, by id, that are compared elsewhere and are not looked into.

    Attributes:
        places: what could be changed in place and was met: ids of objects, addresses of numbers.
    """

    def __init__(self, held: Mapping[int, str]) -> None:
        self.places: set[int] = set()
        self._held, self._hash = held, hashlib.blake2b(digest_size=16)
        self._numbers: dict[int, int] = {}  # of objects, in the order in which they were met
        self._alive: list[Any] = []  # an id must not go to another object before the end

    def digest(self, value: Any) -> str:
        """Return 32 hex digits that equal values share, or :data:`OPAQUE`."""
        try:
            self._walk(value)
        # Broad: a value's own code says what it is made of, and may raise anything.
        except Exception:
            return OPAQUE
        return self._hash.hexdigest()

    def _say(self, *words: object) -> None:
        for word in words:
            text = word if isinstance(word, bytes) else str(word).encode()
            self._hash.update(struct.pack("<q", len(text)) + text)

    def _walk(self, value: Any) -> None:
        kind = type(value)
        if kind in _LEAVES:
            self._say(kind.__name__, value.hex() if kind is float else value)
        elif id(value) in self._held:
            self._say("held", self._held[id(value)])
        elif id(value) in self._numbers:
            self._say("again", self._numbers[id(value)])
        else:
            self._numbers[id(value)] = len(self._numbers)
            self._alive.append(value)
            self._first_time(kind, value)

    def _first_time(self, kind: type, value: Any) -> None:
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif isinstance(value, FunctionType):
            self._say("function", value.__module__, value.__qualname__)
            cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
            for part in (value.__defaults__, value.__kwdefaults__, vars(value), cells):
                self._walk(part)
        elif isinstance(value, _NAMED) and not _bound(value):
            name = getattr(value, "__qualname__", None) or value.__name__
            self._say("name", getattr(value, "__module__", ""), name)
        else:
            self._say("kind", kind.__module__, kind.__qualname__)
            self._parts(kind, value)

    def _tensor(self, value: Tensor) -> None:
        self._say("tensor", value.dtype, tuple(value.shape), value.requires_grad)
        numbers = value.detach().cpu().contiguous().flatten()
        if len(numbers):
            self.places.add(value.untyped_storage().data_ptr())
            self._hash.update(numbers.view(torch.uint8).numpy().data)

    def _array(self, value: np.ndarray[Any, Any]) -> None:
        self._say("array", value.dtype, value.shape)
        self.places.add(_address(value))
        if value.dtype.hasobject:
            self._walk(value.tolist())
        else:
            self._hash.update(np.ascontiguousarray(value).tobytes())

    def _parts(self, kind: type, value: Any) -> None:
        if kind is tuple:
            self._several(value)
            return
        if kind in _TABLES:
            self._several([part for item in value.items() for part in item])
        elif kind is list:
            self._several(value)
        elif kind in (set, frozenset):
            self._unordered(value)
        else:
            self._reduced(value)
        self.places.add(id(value))

    def _several(self, values: Any) -> None:
        self._say(len(values))
        for one in values:
            self._walk(one)

    def _unordered(self, values: Any) -> None:
        found = []
        for one in values:
            walk = Walk(self._held)
            found.append(walk.digest(one))
            self.places |= walk.places
        if OPAQUE in found:
            raise TypeError("a set of what cannot be looked into")
        self._say(*sorted(found))

    def _reduced(self, value: Any) -> None:
        """Walk through what pickle would write of ``value``; it raises where pickle refuses."""
        made = value.__reduce_ex__(4)
        if isinstance(made, str):
            self._say("name", made)
            return
        for part in made:
            # The fourth and fifth are iterators over what the object holds.
            self._walk(list(part) if isinstance(part, Iterator) else part)


def _bound(value: Any) -> bool:
    """Return whether a function belongs to an object, as ``some_list.append`` does."""
    own = getattr(value, "__self__", None)
    return own is not None and not isinstance(own, (ModuleType, type))


def _address(value: np.ndarray[Any, Any]) -> int:
    """Return where the numbers lie that an array, or what it is a view of, holds."""
    while isinstance(value.base, np.ndarray):
        value = value.base
    return int(value.ctypes.data)
