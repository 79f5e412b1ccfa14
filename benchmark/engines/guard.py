"""What a job changed in its process, so that the next job does not start from it.

A process runs many jobs, and Python lets each of them change what all others compute: torch's
default type, a generator's state, a function of torch that was replaced by another. A
:class:`Guard` is made before a job and asked after it. It looks at settings, at random
generators, at hooks and threads, and at whether the names in the modules that jobs compute with
still mean the same objects. It cannot see inside arrays or C libraries, which is why code that
does not ship gets a process of its own; see :mod:`benchmark.engines.local`.
"""

from __future__ import annotations

import _thread
import gc
import locale
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from operator import attrgetter, is_, is_not
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

# Packages whose modules must keep their names and what these stand for; what ends in a dot
# stands for a package with all inside.
OURS = ("benchmark.", "protocols.", "pytorch_metric_learning.")
TORCH = (
    *("torch.nn.", "torch.optim.", "torch.autograd.", "torch.functional.", "torch._tensor."),
    *("torch.random.", "torch.backends.", "torch.utils.data.", "torch.linalg.", "torch.special."),
    *("torch.fft.", "torch.cuda.random.", "torch.cuda.amp.", "torch.amp.", "torch._C._nn."),
)
DEEP = (*OURS, *TORCH)
PACKAGES = (*DEEP, "numpy.", "scipy.stats.", "PIL.Image.", "torchvision.transforms.")
SINGLE = frozenset(
    {"torch", "torch._C", "torch.cuda", "builtins", "math", "random", "time", "os", "sys", "io"}
    | {"functools", "itertools", "collections", "copy", "json", "pickle", "hashlib"}
)
# Names that any use changes, and that change no number: ``sys`` has the last error there, a
# handle of torch counts itself, a class whose object is copied or looked into notes its slots.
PASSED_OVER = frozenset(
    {"next_id", "__warningregistry__", "__doc__", "__annotations__", "__annotate_func__"}
    | {"__slotnames__"}
    | {"last_exc", "last_type", "last_value", "last_traceback"}
)
_UNSEEN = object()
_look_inside = attrgetter("__code__", "__defaults__", "__kwdefaults__")


class Guard:
    """What this process computes with, as it was when the guard was made."""

    def __init__(self) -> None:
        self._state = {name: _read(look) for name, look in STATE.items()}
        self._modules = _watched()
        self._spaces = [
            _Space(place, names, dict(names), whole=whole)
            for place, names, whole in _namespaces(self._modules)
        ]
        self._functions = [
            (f"{space.place}.{name}", value)
            for space in self._spaces
            if space.whole or _within(space.place, TORCH)
            for name, value in space.before.items()
            if type(value) is FunctionType
        ]
        self._code = [_look_inside(function) for _, function in self._functions]
        self._tables = [(place, table, copy(table)) for place, table in _tables(self._spaces)]

    def changed(self) -> list[str]:
        """Return what is not as it was, in words, sorted; [] if nothing is seen to differ."""
        found = {name for name, look in STATE.items() if _read(look) != self._state[name]}
        found |= {
            name for name, module in self._modules.items() if sys.modules.get(name) is not module
        }
        for space in self._spaces:
            found.update(space.changed())
        for (name, function), before in zip(self._functions, self._code, strict=True):
            if any(map(is_not, _look_inside(function), before)):
                found.add(name)
        found |= {place for place, table, before in self._tables if not _same(table, before)}
        return sorted(found)


@dataclass(frozen=True)
class _Space:
    """A module's or a class' names: as they are at any time, and as they were.

    In a ``whole`` one a name more is a change too: a method that hides an inherited one, a
    function that hides a builtin. Other modules get names when parts of them are first used.
    """

    place: str
    names: Mapping[str, Any]
    before: dict[str, Any]
    whole: bool

    def changed(self) -> Iterator[str]:
        """Yield the names that stand for something else now."""
        names, before = self.names, self.before
        if len(names) == len(before) and all(map(is_, names.values(), before.values())):
            return  # a name that only moved to another value would show in these values
        for name, value in before.items():
            if names.get(name, _UNSEEN) is not value and name not in PASSED_OVER:
                yield f"{self.place}.{name}"
        for name in names.keys() - before.keys() - PASSED_OVER if self.whole else ():
            if not isinstance(names[name], ModuleType):  # one that was imported since
                yield f"{self.place}.{name}"


def _read(look: Callable[[], Any]) -> Any:
    """Return what ``look`` finds, or the kind of error where a job broke even that."""
    try:
        return look()
    # Broad: a job may have replaced what is looked at; that it fails now is a change to report.
    except Exception as error:
        return type(error)


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return f"{name}.".startswith(packages)


def _watched() -> dict[str, ModuleType]:
    """Return the modules that are looked at, of those that are imported by now."""
    return {
        name: module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and (name in SINGLE or _within(name, PACKAGES))
    }


def _namespaces(
    modules: dict[str, ModuleType],
) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yield place, names, and whether a name more counts, of modules and of their classes."""
    seen = set()
    for name, module in modules.items():
        yield name, vars(module), _within(name, OURS)
        if not _within(name, DEEP):
            continue
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ in modules and value not in seen:
                seen.add(value)
                yield f"{value.__module__}.{value.__qualname__}", vars(value), True


def _tables(spaces: list[_Space]) -> Iterator[tuple[str, Any]]:
    """Yield the tables of our modules, and torch's of hooks that see every module."""
    for space in spaces:
        ours = _within(space.place, OURS)
        for name, value in space.before.items() if ours or _within(space.place, TORCH) else ():
            if isinstance(value, (dict, list, set)) and (ours or name.startswith("_global_")):
                yield f"{space.place}.{name}", value


def _same(table: Any, before: Any) -> bool:
    """Return whether a table holds the same objects as its copy."""
    if len(table) != len(before):
        return False
    if isinstance(table, dict):
        return all(map(is_, table, before)) and all(map(is_, table.values(), before.values()))
    return table == before if isinstance(table, set) else all(map(is_, table, before))


def _threads() -> tuple[int, frozenset[int | None]]:
    """Return how many threads Python has started, and which of them it knows."""
    known = (t for t in threading.enumerate() if not isinstance(t, threading._DummyThread))
    return _thread._count(), frozenset(thread.ident for thread in known)


def _precisions() -> tuple[Any, ...]:
    """Return the settings by which torch gives up precision for speed."""
    backends = torch.backends
    return (
        torch.get_float32_matmul_precision(),
        backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        *(getattr(place, "fp32_precision", None) for place in _PRECISION_PLACES),
        float(np.float32(1e-39) * np.float32(1.0)),  # 0.0 once numbers this small are flushed
    )


_PRECISION_PLACES = (
    torch.backends,
    torch.backends.cuda.matmul,
    torch.backends.cudnn,
    getattr(torch.backends.cudnn, "conv", None),
    torch.backends.mkldnn,
    getattr(torch.backends.mkldnn, "matmul", None),
    getattr(torch.backends.mkldnn, "conv", None),
)


def _libraries() -> tuple[Any, ...]:
    """Return which libraries torch computes with, and how it chooses their algorithms."""
    cudnn = torch.backends.cudnn
    attention: Any = torch.backends.cuda  # its functions are not typed
    return (
        attention.flash_sdp_enabled(),
        attention.mem_efficient_sdp_enabled(),
        attention.math_sdp_enabled(),
        torch._C._get_mkldnn_enabled(),
        torch._C._get_nnpack_enabled(),
        torch.backends.quantized.engine,
        torch.backends.opt_einsum.enabled,
        torch.backends.opt_einsum.strategy,
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
    )


def _determinism() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )


def _autograd() -> tuple[Any, ...]:
    hooks: Any = torch._C._autograd  # its stub lacks some of it
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_anomaly_enabled(),
        torch.autograd.is_multithreading_enabled(),
        hooks._saved_tensors_hooks_is_enabled(),
        hooks._top_saved_tensors_default_hooks(True) is None,
    )


def _autocast() -> tuple[Any, ...]:
    kinds = ("cpu", "cuda")
    return (
        *(torch.is_autocast_enabled(kind) for kind in kinds),
        *(torch.get_autocast_dtype(kind) for kind in kinds),
        torch.is_autocast_cache_enabled(),
    )


def _modes() -> tuple[Any, ...]:
    """Return the interceptors of torch's calls, and the kernels that were replaced."""
    return (
        torch._C._len_torch_function_stack(),
        torch._C._len_torch_dispatch_stack(),
        torch._C._is_torch_function_enabled(),
        sum(name.startswith("aten/") for name in torch.library._impls),
        torch.__future__.get_overwrite_module_params_on_conversion(),
        torch.__future__.get_swap_module_params_on_conversion(),
    )


def _numpy_generator() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return (name, np.asarray(keys).tobytes(), *rest)


def _limits() -> list[tuple[int, int]]:
    import resource  # only now, because Windows has none

    return [resource.getrlimit(which) for which in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE)]


def _cuda_generators() -> tuple[bytes, ...]:
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return ()
    return tuple(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())


STATE: dict[str, Callable[[], Any]] = {
    "torch's default type": torch.get_default_dtype,
    "torch's default device": lambda: str(torch.get_default_device()),
    "torch's gradient mode": _autograd,
    "torch's autocast": _autocast,
    "torch's precision": _precisions,
    "torch's libraries": _libraries,
    "torch's determinism": _determinism,
    "torch's threads": lambda: (torch.get_num_threads(), torch.get_num_interop_threads()),
    "torch's modes": _modes,
    "torch's generator": lambda: torch.get_rng_state().numpy().tobytes(),
    "CUDA's generators": _cuda_generators,
    "numpy's errors": lambda: (np.geterr(), np.geterrcall(), np.getbufsize()),
    "numpy's generator": _numpy_generator,
    "Python's generator": random.getstate,
    "Python's limits": lambda: (sys.getrecursionlimit(), sys.getswitchinterval()),
    "Python's tracing": lambda: (sys.gettrace(), sys.getprofile(), threading.gettrace()),
    "Python's garbage collection": lambda: (gc.isenabled(), gc.get_threshold()),
    "warnings that are errors": lambda: [f for f in warnings.filters if f[0] == "error"],
    "signal handlers": lambda: [signal.getsignal(n) for n in sorted(signal.valid_signals())],
    "timers": lambda: signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0),
    "threads": _threads,
    "environment variables": lambda: dict(os.environ),
    "working folder": os.getcwd,
    "search path of modules": lambda: list(sys.path),
    "locale": lambda: locale.setlocale(locale.LC_ALL),
    "limits of the process": _limits,
}


def use_optimizers_once() -> None:
    """Create one of each optimizer of torch, which replaces ``step`` when a class is first used."""
    for value in list(vars(torch.optim).values()):
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer):
            with suppress(TypeError, ValueError):  # the base class; those for other tensors
                value([torch.nn.Parameter(torch.zeros(1, 1))])  # type: ignore[call-arg]


use_optimizers_once()
