"""The Reality Check's RMSprop at 1e-6, BatchNorm statistics frozen, no schedule."""

from protocols.recipe import Recipe

RECIPE = Recipe(
    name="paper",
    summary="RMSprop 1e-6, momentum 0.9, decay 1e-4, frozen BatchNorm statistics",
    optimizer="rmsprop",
    lr=1e-6,
    weight_decay=1e-4,
    momentum=0.9,
)
