"""What the trunks from torchvision share: the network cut after its last map, and weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, TypeVar
from urllib.error import URLError

from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]

from protocols.errors import InvalidInputError, unknown_name
from protocols.trunk import Trunk
from protocols.weights import Layout, State, Weights, fit, read

# For networks with heads in the middle: without them, and started as torchvision does by default.
NO_AUXILIARY = MappingProxyType({"aux_logits": False, "init_weights": True})


class Torchvision(Trunk):
    """A network of torchvision up to its last feature map.

    Class attributes:
        network: its name in torchvision.
        last: the child whose output is the map; the children after it are cut off.
        cut: prefixes of the keys of a full checkpoint that go with what is cut off.
        options: arguments of torchvision's builder.
    """

    network: ClassVar[str]
    last: ClassVar[str]
    cut: ClassVar[tuple[str, ...]] = ("fc.",)
    options: ClassVar[Mapping[str, bool]] = MappingProxyType({})

    def __init__(self) -> None:
        super().__init__()
        # The children run one after the other in all these networks, under their own keys.
        self.net = nn.Sequential()
        whole = models.get_model(self.network, weights=None, **self.options)
        for name, child in whole.named_children():
            self.net.add_module(name, child)
            if name == self.last:
                return

    def map(self, images: Tensor) -> Tensor:
        """Return the output (B, C, H, W) of the last child that is kept."""
        feature_map: Tensor = self.net(images)
        return feature_map

    @staticmethod
    def rename(state: State) -> State:
        """Return ``state`` under today's keys; older layouts override this."""
        return state


AnyTrunk = TypeVar("AnyTrunk", bound=Torchvision)


def load(trunk: AnyTrunk, weights: Weights) -> AnyTrunk:
    """Return ``trunk`` with ``weights`` in it.

    Raises:
        UnknownNameError: torchvision has no such weight set for this network.
        InvalidInputError: the weights cannot be read or do not fit.
    """
    if weights is None:
        return trunk
    state = read(weights) if isinstance(weights, Path) else _download(trunk.network, weights)
    layout = Layout(f"torchvision's {trunk.network}", trunk.cut, trunk.rename)
    fit(trunk.net, state, layout, str(weights))
    trunk.pretrained = True
    return trunk


def _download(network: str, name: str) -> State:
    sets = {entry.name: entry for entry in models.get_model_weights(network)}
    if name not in sets:  # DEFAULT too: it means other weights after an upgrade
        raise unknown_name(f"weight set of torchvision's {network}", name, sets)
    options = {"progress": False, "check_hash": True, "map_location": "cpu", "weights_only": True}
    try:
        state: State = sets[name].get_state_dict(**options)
    except (URLError, TimeoutError, ConnectionError, RuntimeError) as error:
        raise InvalidInputError(
            f"weights {name}: {sets[name].url} could not be downloaded ({error}). Fetch it "
            "yourself and give the file instead of the name"
        ) from error
    return state
