"""Any classification network of torchvision that ends in a map, like torchvision:resnet18."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from difflib import get_close_matches

import torch
from torch import nn
from torchvision import models  # type: ignore[import-untyped]

from protocols.errors import InvalidInputError, UnknownNameError
from protocols.trunk import InputScale, Trunk
from protocols.trunks._densenet import DenseNet
from protocols.trunks._torchvision import Torchvision, load
from protocols.weights import Weights

ARGUMENT = "NAME"

# Class of the network: the child whose output is its last map, all children before it run one
# after the other; and whether the map ends in a ReLU.
ENDS = {
    "AlexNet": ("features", True),
    "ConvNeXt": ("features", False),
    "DenseNet": ("features", True),
    "EfficientNet": ("features", False),
    "MNASNet": ("layers", True),
    "MobileNetV2": ("features", True),
    "MobileNetV3": ("features", False),
    "RegNet": ("trunk_output", True),
    "ResNet": ("layer4", True),
    "ShuffleNetV2": ("conv5", True),
    "SqueezeNet": ("features", True),
    "SwinTransformer": ("permute", False),
    "VGG": ("features", True),
}
OWN = ("GoogLeNet", "Inception3")  # these have a trunk of their own
_OTHERS = "timm:vit_base_patch16_224, timm:maxvit_tiny_tf_224"
_LOOKED_AT = 64  # px of the image that tells the channels of a map


class Named(Torchvision):
    """A network of torchvision under its own name; its vector is the mean of its map.

    Args:
        network: its name in torchvision.
        whole: the network, of a class of :data:`ENDS`; its parts are taken over.
        scale: how its input is scaled.
    """

    def __init__(self, network: str, whole: nn.Module, scale: InputScale) -> None:
        Trunk.__init__(self)
        last, nonnegative = ENDS[type(whole).__name__]
        children = dict(whole.named_children())
        names = list(children)
        kept = names[: names.index(last) + 1]
        self.net = nn.Sequential(OrderedDict((name, children[name]) for name in kept))
        # Per network here; the base class declares them per class.
        self.__dict__.update(
            name=f"torchvision:{network}",
            network=network,
            cut=tuple(f"{name}." for name in names[len(kept) :]),
            nonnegative=nonnegative,
            scale=scale,
            begins=("net.layer2", "net.layer3", "net.layer4") if last == "layer4" else (),
        )
        with torch.no_grad():
            seen = self.eval().map(torch.zeros(1, 3, _LOOKED_AT, _LOOKED_AT))
        self.channels = self.train().pool(seen).shape[1]


class Dense(Named, DenseNet):
    """A DenseNet, whose last ReLU is in none of its parts."""


def build(weights: Weights = None, argument: str = "") -> Torchvision:
    """Return the network ``argument`` with ``weights``, or at random.

    Args:
        weights: a file, or the name of a set that torchvision downloads. The input is scaled as a
            set by name needs it, under a file as the first of the network's sets does.
        argument: the network's name in torchvision.

    Raises:
        UnknownNameError: torchvision has no such network, or no such weight set for it.
        InvalidInputError: the network ends in no map, or the weights do not fit.
    """
    known = models.list_models(module=models)
    if argument not in known:
        near = get_close_matches(argument, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownNameError(f"no classification network {argument!r} in torchvision.{hint}")
    with warnings.catch_warnings():  # two networks warn of how they start; they are refused
        warnings.simplefilter("ignore", FutureWarning)
        whole = models.get_model(argument, weights=None)
    kind = type(whole).__name__
    if kind not in ENDS:
        own = f"Take the trunk {argument}" if kind in OWN else f"timm has such ones: {_OTHERS}"
        raise InvalidInputError(f"torchvision:{argument} does not end in a map by a rule. {own}")
    made = Dense if kind == "DenseNet" else Named
    return load(made(argument, whole, _scale(argument, weights)), weights)


def _scale(network: str, weights: Weights) -> InputScale:
    """Return how the input of a weight set is scaled, of the network's first without a name."""
    sets = {entry.name: entry for entry in models.get_model_weights(network)}
    if not sets:
        return InputScale()
    named = sets.get(weights) if isinstance(weights, str) else None
    transforms = (named or next(iter(sets.values()))).transforms()
    return InputScale(mean=tuple(transforms.mean), std=tuple(transforms.std))
