"""The layers of a trunk in the order in which images meet them, for rates that differ by depth.

A layer is a block of the network together with what stands behind it and has no block of its own: a
norm, a transition. Only trunks whose order is known have layers here; a rate by depth on any other
is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

from torch import nn

from protocols.errors import InvalidInputError
from protocols.trunk import Trunk

_HERE = "protocols.trunks."
_DENSE = r"net\.features\.(conv0|denseblock\d+\.denselayer\d+)\."
# By the class of a trunk that ships: what the name of a block's parameter begins with.
BLOCKS = {
    "BNInception": r"net\.(conv\d|inception_\d[a-z])_",
    "DenseNet121": _DENSE,
    "DenseNet161": _DENSE,
    "DenseNet169": _DENSE,
    "DenseNet201": _DENSE,
    "EfficientNetLite0": r"net\.(blocks\.\d+\.\d+|conv_stem|conv_head)\.",
    "GoogLeNet": r"net\.(conv\d|inception\w+)\.",
    "InceptionV3": r"net\.(Conv2d_\w+|Mixed_\w+)\.",
    "MobileNetV2": r"net\.features\.\d+\.",
    "ResNet50": r"net\.(layer\d+\.\d+|conv1)\.",
    "Tiny": r"stages\.\d+\.",
}


def layers(trunk: Trunk) -> list[list[nn.Parameter]]:
    """Return the trainable parameters of each layer, the first that images meet first.

    Every trainable parameter of ``trunk`` is in exactly one; a layer without any is left out.

    Raises:
        InvalidInputError: the order of its layers is not known.
    """
    named = [(name, p) for name, p in trunk.named_parameters() if p.requires_grad]
    numbers = dict(_numbered(trunk, [name for name, _ in trunk.named_parameters()]))
    found: dict[int, list[nn.Parameter]] = {}
    for name, parameter in named:
        found.setdefault(numbers[name], []).append(parameter)
    return [found[number] for number in sorted(found)]


def _numbered(trunk: Trunk, names: list[str]) -> Iterator[tuple[str, int]]:
    """Yield each parameter's name with the number of its layer."""
    kind = type(trunk)
    if kind.__module__ == f"{_HERE}timm":
        yield from _of_timm(trunk)
        return
    pattern = BLOCKS.get(kind.__name__) if kind.__module__.startswith(_HERE) else None
    if pattern is None:
        raise _unknown(kind.__name__)
    blocks: dict[str, int] = {}
    last = 0
    for name in names:
        if block := re.match(pattern, name):
            last = blocks.setdefault(block[0], len(blocks))
        yield name, last


def _of_timm(trunk: Trunk) -> Iterator[tuple[str, int]]:
    """Yield the same by the order that timm keeps for a model's own fine-tuning."""
    net = trunk.get_submodule("net")
    matcher = getattr(net, "group_matcher", None)
    if matcher is None:
        raise _unknown(str(getattr(trunk, "name", "timm")))
    group = import_module("timm.models").group_parameters
    numbered: dict[int, list[str]] = group(net, matcher(coarse=False))
    for number, names in numbered.items():
        yield from ((f"net.{name}", int(number)) for name in names)


def _unknown(trunk: str) -> InvalidInputError:
    return InvalidInputError(
        f"recipe with layer_decay: the order of the layers of trunk {trunk} is not known. Known "
        f"are {', '.join(sorted(BLOCKS))} and models of timm that state theirs. Choose one of "
        "them or another recipe"
    )
