"""Weights of a trunk: what was asked for, reading it safely, and fitting it to a network.

Weights are ``none`` (a random start), the name of a set that the trunk's library offers, or a
file, which may lie in an installed package. A file is read as plain tensors, so that reading it
runs no code, and must fit key by key. This module imports torch only to read, so that a plan can
name and digest weights without it.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protocols import packaged
from protocols.errors import InvalidInputError

if TYPE_CHECKING:
    from torch import Tensor, nn

State = dict[str, "Tensor"]
Weights = Path | str | None
"""None starts at random, a name is a weight set of the trunk's library, a path is a file."""

COUNTER = "num_batches_tracked"
# Names under which training programs keep the state dict in a checkpoint.
WRAPPERS = (
    "state_dict",
    "state_dict_ema",
    "model",
    "model_ema",
    "model_state_dict",
    "teacher",
    "student",
    "net",
    "network",
)
# What DataParallel, torch.compile and training programs put before every key.
PREFIXES = ("module.", "_orig_mod.", "model.", "encoder.", "backbone.", "net.", "trunk.")
_SHOWN = 3  # keys named in a message; the rest are counted


def parse(text: str) -> Weights:
    """Return what ``FILE|NAME|package:NAME|none`` on a command line means.

    ``none`` is a random start. ``package:NAME`` is the file of weights in an installed package. A
    word of letters, digits, ``_`` and ``-`` is the name of a weight set; anything else with a dot
    or a separator in it is a file (``./weights`` names one without a suffix). What it means never
    depends on which files happen to exist.

    Raises:
        InvalidInputError: the file does not exist, the package is not installed, or the text is
            empty.
    """
    if text == "none":
        return None
    if text.startswith(packaged.PREFIX):
        return packaged.find(text)
    if re.fullmatch(r"[\w-]+", text):
        return text
    path = Path(text).expanduser()
    if not text or not path.is_file():
        raise InvalidInputError(
            f"weights {text!r}: no such file. Expected a file, the name of a weight set such as "
            "IMAGENET1K_V1, package:NAME for the file in an installed package, or none for a "
            "random start"
        )
    return path.resolve()


def identity(weights: Weights) -> str:
    """Return what a record says of ``weights``: a file counts by its content, not its path."""
    if weights is None:
        return "none"
    return f"sha256:{sha256(weights)}" if isinstance(weights, Path) else weights


def sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInputError(f"weights {path}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Layout:
    """What a trunk's checkpoint looks like.

    Attributes:
        source: whose state dict it is, for messages: ``torchvision's resnet50``.
        drop: prefixes of keys that a full checkpoint has and the trunk does not: its
            classifier, auxiliary heads. Nothing else is ever left out.
        rename: turns older layouts of the same network into today's.
    """

    source: str
    drop: tuple[str, ...] = ()
    rename: Callable[[State], State] = dict


def read(path: Path) -> State:
    """Return the tensors of a state dict file, on the CPU, running none of its code.

    A checkpoint that holds the state dict under a name of :data:`WRAPPERS` is opened, and what
    stands before every key, of :data:`PREFIXES`, is removed.

    Raises:
        InvalidInputError: no such file, damaged, pickled objects, no state dict, or several.
    """
    return _unwrapped(path)[0]


def unwrapping(path: Path) -> str:
    """Return in words what :func:`read` opened and removed of a file, empty if nothing.

    Raises:
        InvalidInputError: as :func:`read` does.
    """
    opened, removed = _unwrapped(path)[1:]
    parts = [f"the state dict under {'.'.join(opened)!r} is taken"] if opened else []
    parts += [f"{''.join(removed)!r} before every key is removed"] if removed else []
    return f"weights {path}: {' and '.join(parts)}" if parts else ""


def _unwrapped(path: Path) -> tuple[State, list[str], list[str]]:
    """Return the state dict of a file, the names it stood under, the prefixes taken off."""
    if not path.is_file():
        raise InvalidInputError(f"weights {path}: no such file")
    content = _safetensors(path) if path.suffix == ".safetensors" else _plain(path)
    opened: list[str] = []
    while isinstance(content, Mapping):
        inner = [name for name in WRAPPERS if isinstance(content.get(name), Mapping)]
        if len(inner) > 1:
            raise InvalidInputError(
                f"weights {path}: holds {' and '.join(inner)}, and which is meant nobody says. "
                "Save one of them to a file of its own: torch.save(checkpoint[name], file)"
            )
        if not inner:
            break
        opened += inner
        content = content[inner[0]]
    if not isinstance(content, Mapping):
        raise InvalidInputError(f"weights {path}: holds a {type(content).__name__}; {_EXPECTED}")
    others = [
        f"{key}: {type(value).__name__}"
        for key, value in content.items()
        if not isinstance(key, str) or not hasattr(value, "shape")
    ]
    if others or not content:
        met = f"entries that are no tensors ({_few(others)})" if others else "nothing"
        raise InvalidInputError(f"weights {path}: holds {met}; {_EXPECTED}")
    state, removed = dict(content), []
    while common := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), ""):
        state = {key.removeprefix(common): value for key, value in state.items()}
        removed.append(common)
    return state, opened, removed


def fit(module: nn.Module, state: State, layout: Layout, where: str) -> None:
    """Copy ``state`` into ``module``; every key must be there, in the right shape.

    Batch counters may be absent altogether: torch wrote none before 0.4.1, and with a fixed
    momentum nothing reads them.

    Args:
        module: the network, changed in place.
        state: a state dict, left alone.
        layout: what the state dict should look like.
        where: its file or name, for messages.

    Raises:
        InvalidInputError: keys are missing, unexpected or of another shape.
    """
    wanted: State = module.state_dict()
    met = {k: v for k, v in layout.rename(state).items() if not k.startswith(layout.drop)}
    if not any(key.endswith(COUNTER) for key in met):
        met |= {key: value for key, value in wanted.items() if key.endswith(COUNTER)}
    differs = _difference(met, wanted)
    if differs:
        without = f", with or without {', '.join(f'{p}*' for p in layout.drop)}"
        raise InvalidInputError(
            f"weights {where} do not fit: {differs}. Expected the state dict of "
            f"{layout.source}{without if layout.drop else ''}. Give a file of this very network, "
            "or none for a random start"
        )
    if fault := _unusable(met, wanted):
        raise InvalidInputError(
            f"weights {where}: {fault}. Give a file of plain numbers that are all finite, or none "
            "for a random start"
        )
    module.load_state_dict(met)


def _unusable(met: State, wanted: State) -> str:
    """Return in words what tensors of a fitting state dict are no plain numbers, "" if all are."""
    kinds: dict[str, list[str]] = {}
    for key, tensor in met.items():
        if fault := _fault(tensor, wanted[key]):
            kinds.setdefault(fault, []).append(key)
    return "; ".join(f"{len(keys)} {fault} ({_few(keys)})" for fault, keys in kinds.items())


def _fault(tensor: Tensor, wanted: Tensor) -> str:
    """Return why a tensor cannot stand for one of the network, "" if it can."""
    import torch

    if tensor.is_quantized:
        return "quantised"
    if tensor.is_meta:
        return "without values (meta)"
    if tensor.layout != torch.strided:
        return f"not dense ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.is_floating_point() != wanted.is_floating_point() or tensor.is_complex():
        kinds = (str(t.dtype).removeprefix("torch.") for t in (tensor, wanted))
        return f"{' where the network has '.join(kinds)}"
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        return "with NaN or infinite numbers"
    return ""


def _difference(met: State, wanted: State) -> str:
    """Return in words how two state dicts differ, "" if they fit."""
    missing = [key for key in wanted if key not in met]
    unexpected = [key for key in met if key not in wanted]
    shapes = [
        f"{key} is {tuple(met[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in met and met[key].shape != wanted[key].shape
    ]
    found = {
        f"{len(missing)} of {len(wanted)} keys missing": missing,
        f"{len(unexpected)} unexpected": unexpected,
        f"{len(shapes)} of another shape": shapes,
    }
    return "; ".join(f"{what} ({_few(which)})" for what, which in found.items() if which)


def _few(items: Iterable[str]) -> str:
    listed = list(items)
    return ", ".join(listed[:_SHOWN]) + (", …" if len(listed) > _SHOWN else "")


def _plain(path: Path) -> object:
    import torch

    try:
        with warnings.catch_warnings():  # of sparse and quantised tensors: they are refused later
            warnings.simplefilter("ignore")
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes fail in a dozen ways, all of them the file's fault
        culprit = re.search(r"GLOBAL ([\w.]+)", str(error))
        # torch's own text advises to read the file with its code.
        met = (
            f"holds a pickled {culprit[1]}, and reading that would run its code"
            if culprit
            else f"damaged, or not a torch file ({type(error).__name__})"
        )
        raise InvalidInputError(f"weights {path}: {met}; {_EXPECTED}") from error
    return content


def _safetensors(path: Path) -> object:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise InvalidInputError(
            f"weights {path}: reading it needs the package safetensors, which timm brings"
        ) from error
    try:
        content: object = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidInputError(f"weights {path}: damaged ({error}); {_EXPECTED}") from error
    return content


_EXPECTED = (
    "expected a state dict of plain tensors, as torch.save(model.state_dict(), file) writes it"
)
