"""AdamW with frozen BatchNorm statistics, for trunks that start from weights."""

from protocols.recipe import Recipe

RECIPE = Recipe(
    name="adamw",
    summary="AdamW 1e-4, decay 1e-4, frozen BatchNorm statistics: for pretrained trunks",
    optimizer="adamw",
    lr=1e-4,
    weight_decay=1e-4,
)
