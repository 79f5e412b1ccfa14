"""Maps on a trunk's way to its last one, seen from outside: what enters the parts that halve it.

A stage ends where the next part halves the map, so the first stages are what enters those parts
and the last one is the trunk's map. The parts of trunks that ship are named here and not in their
files: a file's code is part of every cell's id, and a method that reads no stage must keep its
cells when a trunk learns to show them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_DENSENET = tuple(f"net.features.transition{n}" for n in (1, 2, 3))

# By the module in protocols/trunks, from early to late.
SHIPPED = MappingProxyType(
    {
        "bn_inception": (
            "net.conv2_3x3_reduce",
            "net.inception_3c_3x3_reduce",
            "net.inception_4e_3x3_reduce",
        ),
        "densenet121": _DENSENET,
        "densenet161": _DENSENET,
        "densenet169": _DENSENET,
        "densenet201": _DENSENET,
        "efficientnet_lite0": ("net.blocks.2", "net.blocks.3", "net.blocks.5"),
        "googlenet": ("net.maxpool2", "net.maxpool3", "net.maxpool4"),
        "inception_v3": ("net.Mixed_6a", "net.Mixed_7a"),
        "mobilenet_v2": ("net.features.4", "net.features.7", "net.features.14"),
        "resnet50": ("net.layer2", "net.layer3", "net.layer4"),
        "tiny": ("stages.1", "stages.2", "stages.3"),
    }
)


@contextmanager
def entering(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within this, note what enters the parts of ``module`` called ``names``, by name."""
    found: dict[str, Tensor] = {}

    def noting(name: str) -> None:
        def note(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            del part
            found[name] = inputs[0]

        handles.append(module.get_submodule(name).register_forward_pre_hook(note))

    handles: list[RemovableHandle] = []
    for name in names:
        noting(name)
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
