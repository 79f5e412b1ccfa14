"""From a recipe to a torch optimiser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.optim import Optimizer

from protocols.layers import layers
from protocols.method import ParameterGroup
from protocols.network import Network
from protocols.recipe import Recipe

GRAPHS = {"cuda"}  # devices that record graphs; for others torch refuses the word "capturable"


def make_optimizer(
    recipe: Recipe, groups: list[ParameterGroup], device: torch.device | None = None
) -> Optimizer:
    """Return the recipe's optimiser over ``groups``, each with its own rate and decay.

    With ``device`` its rates are () float32 tensors there, and a step neither waits for the
    device nor looks at the host, so that a graph can record it.
    """
    settings: list[dict[str, Any]] = [
        {
            "params": group.parameters,
            "lr": rate_of(group, recipe),
            "weight_decay": recipe.weight_decay if group.decay else 0.0,
            "name": group.name,
        }
        for group in groups
    ]
    flags = _on_device(recipe, settings, device) if device is not None else {}
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(settings, lr=recipe.lr, momentum=recipe.momentum, **flags)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=recipe.lr, momentum=recipe.momentum, **flags)
    families: dict[str, type[Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "radam": torch.optim.RAdam,
    }
    family: Any = families[recipe.optimizer]
    optimizer: Optimizer = family(settings, lr=recipe.lr, **flags)
    return optimizer


def groups_under(recipe: Recipe, network: Network) -> list[ParameterGroup]:
    """Return every trainable parameter in exactly one group, with its rate under ``recipe``.

    Where rates fall with depth, each layer of the trunk is a group: layer l of L, counted from 0,
    has ``layer_decay ** (L - l)`` of the trunk's rate.

    Raises:
        InvalidInputError: the order of the trunk's layers is not known.

    Source: Clark et al., ICLR 2020 (ELECTRA), section 3.1 and table 7; in vision Bao et al., ICLR
    2022 (BEiT), appendix.
    """
    groups = network.groups()
    if recipe.layer_decay is None or not any(p.requires_grad for p in network.trunk.parameters()):
        return groups
    trunk, others = groups[0], groups[1:]
    found = layers(network.trunk)
    parts = [
        replace(
            trunk,
            name=f"{trunk.name} {number}",
            parameters=parameters,
            lr_factor=trunk.lr_factor * recipe.layer_decay ** (len(found) - number),
        )
        for number, parameters in enumerate(found)
    ]
    return [*parts, *others]


def rate_of(group: ParameterGroup, recipe: Recipe) -> float:
    """Return the learning rate that a group starts from."""
    return group.lr if group.lr is not None else recipe.lr * group.lr_factor


def _on_device(
    recipe: Recipe, settings: list[dict[str, Any]], device: torch.device
) -> dict[str, Any]:
    """Make the rates tensors and return the flags of an optimiser that a graph can record."""
    for group in settings:
        group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
    recorded = device.type in GRAPHS
    if recipe.optimizer == "sgd":
        return {"fused": True}
    if recipe.optimizer in ("adam", "adamw"):
        return {"fused": True, "capturable": recorded}
    return {"foreach": True, "capturable": recorded}
