"""A device that every machine has: its tensors keep their values on the CPU but refuse the host's.

On a GPU an operation that is given a tensor of the host fails, and so does a plugin that forgot
``device=z.device``. Here the same mistake is found without a GPU. A tensor of the pretended device
says that it is on ``meta``, torch's name for a device without memory. What torch itself keeps on
``meta`` has no values, so a loss that asks for one (``.item()``, ``nonzero()``, a boolean mask as
an index) would end there; on a GPU that is legal, it only waits. So this device computes.

It cannot judge a loss that opens ``torch.autocast`` for the device of its input: torch knows no
autocast for ``meta``. Terms get float32 anyway.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")
_HOST = torch.device("cpu")
_FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray)
# Between devices these copy. Where the tensor to be indexed is on the device, positions may be
# on the host.
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_INDEXES = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
)


_RUNNERS = ("pretend_device", "toy_task", "method", "terms", "teacher", "mixing")
_OURS = {str(Path(__file__).with_name(f"{n}.py")) for n in _RUNNERS}


class HostTensorError(Exception):
    """An operation on the device was given something that is on the host."""


class DeviceTensor(Tensor):
    """A tensor of the pretended device; ``held`` is where its values are."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        """Return ``held`` as it would be on the device; the memory is shared."""
        made: DeviceTensor = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        """Return the values, and that they are on the device."""
        return f"DeviceTensor({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute ``func`` on the values, unless it was given a tensor of the host."""
        return _compute(func, args, dict(kwargs or {}))


def to_device(tensor: Tensor) -> Tensor:
    """Return a copy of ``tensor`` on the pretended device, without its history."""
    return DeviceTensor(tensor.detach().clone())


def move(module: nn.Module) -> None:
    """Put the parameters and buffers of ``module`` on the pretended device, as ``.to`` does.

    The objects stay the same ones, so a list that holds a parameter still holds it. Tensors in
    plain attributes stay on the host, as with ``.to``.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        there = to_device(tensor)
        if isinstance(tensor, nn.Parameter):
            there = nn.Parameter(there, requires_grad=tensor.requires_grad)
        torch.utils.swap_tensors(tensor, there)  # type: ignore[no-untyped-call]


@contextmanager
def pretended() -> Iterator[None]:
    """Within this, tensors made with the device of a :class:`DeviceTensor` are on it too."""
    with _Functions(), _Operations():  # type: ignore[no-untyped-call]
        yield


def blame(error: Exception) -> str:
    """Return file, line and code where ``error`` came from: the last place in nobody's library."""
    library = str(Path(torch.__file__).parent)
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename not in _OURS
        and not frame.f_code.co_filename.startswith(library)
    ]
    if not frames:
        return ""
    file, line = frames[-1]
    return f"{file}:{line}: `{linecache.getline(file, line).strip()}`:"


class _Functions(TorchFunctionMode):
    """What torch settles in Python or C++ before any operation is dispatched."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _FROM_DATA and _is_device(given.get("device")):
            data, *rest = args
            made = data if isinstance(data, Tensor) else func(data, *rest, **_on_host(given))
            return made.to(DEVICE) if isinstance(data, Tensor) else DeviceTensor(made)
        first = args[0] if args else None
        if isinstance(first, DeviceTensor):
            if func in (Tensor.__getitem__, Tensor.__setitem__):
                args = (first, _as_tensors(args[1]), *args[2:])
            if func is Tensor.new_tensor and "device" not in given:
                return DeviceTensor(first.held.new_tensor(*args[1:], **given))
            if func is Tensor.tolist or given.get("force"):  # waits, and is legal
                return func(first.held, *args[1:], **given)
            if func in (Tensor.numpy, Tensor.__array__):
                raise HostTensorError("numpy cannot read a tensor of the device: use .cpu() first")
        return func(*args, **given)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations without a tensor of the device among their arguments, such as ``torch.eye``."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _compute(func, args, dict(kwargs or {}))


def _compute(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    leaves = tree_leaves((args, kwargs))
    asked = kwargs.get("device")
    on_device = any(isinstance(leaf, DeviceTensor) for leaf in leaves)
    if asked is not None:
        on_device = _is_device(asked)
    if on_device:
        _refuse_host(func, args, kwargs, leaves)
    held = tree_map_only(DeviceTensor, lambda tensor: tensor.held, (args, _on_host(kwargs)))
    made = func(*held[0], **held[1])
    if func is torch.ops.aten.copy_.default:  # to the host: the target says where
        on_device = isinstance(args[0], DeviceTensor)
    if not on_device:
        return made
    there = tree_map_only(Tensor, DeviceTensor, made)
    return return_and_correct_aliasing(func, args, kwargs, there)  # type: ignore[no-untyped-call]


def _refuse_host(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]
) -> None:
    """Raise HostTensorError where a GPU would refuse; numbers in () tensors may be anywhere."""
    generator = kwargs.get("generator")
    if generator is not None and generator.device == _HOST:
        raise HostTensorError(f"{_name(func)} on the device is given a generator of the host")
    if func in _COPIES:
        return
    if func in _INDEXES and isinstance(args[0], DeviceTensor):
        leaves = [args[0], *args[2:3]]
    for leaf in leaves:
        if isinstance(leaf, Tensor) and not isinstance(leaf, DeviceTensor) and leaf.ndim:
            size = " x ".join(map(str, leaf.shape))
            kind = str(leaf.dtype).removeprefix("torch.")
            raise HostTensorError(
                f"{_name(func)} is given a tensor of the host ({size} {kind}) beside one of the "
                "device"
            )


def _as_tensors(index: object) -> object:
    """Return an index with lists and arrays as tensors: torch would drop their values."""
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    listed = isinstance(index, list) and not any(isinstance(i, (slice, Tensor)) for i in index)
    return torch.as_tensor(index) if listed or isinstance(index, np.ndarray) else index


def _on_host(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {k: _HOST if k == "device" and _is_device(v) else v for k, v in kwargs.items()}


def _is_device(asked: object) -> bool:
    return asked is not None and torch.device(asked) == DEVICE  # type: ignore[call-overload]


def _name(func: Callable[..., Any]) -> str:
    return str(func).split(".")[1] if "." in str(func) else str(func)
