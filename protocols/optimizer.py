"""From a recipe to a torch optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from protocols.method import Group
from protocols.recipe import Recipe


def make_optimizer(recipe: Recipe, groups: list[Group]) -> Optimizer:
    """Return the recipe's optimiser over ``groups``, each with its own rate and decay."""
    settings: list[dict[str, Any]] = [
        {
            "params": group.parameters,
            "lr": group.lr if group.lr is not None else recipe.lr * group.lr_factor,
            "weight_decay": recipe.weight_decay if group.decay else 0.0,
            "name": group.name,
        }
        for group in groups
    ]
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(settings, lr=recipe.lr, momentum=recipe.momentum)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=recipe.lr, momentum=recipe.momentum)
    families: dict[str, type[Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "radam": torch.optim.RAdam,
    }
    family: Any = families[recipe.optimizer]
    optimizer: Optimizer = family(settings, lr=recipe.lr)
    return optimizer
