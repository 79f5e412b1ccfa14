"""Plain Adam at a constant rate; BatchNorm is trained, as a trunk without weights needs."""

from protocols.recipe import Recipe

RECIPE = Recipe(
    name="adam",
    summary="Adam 1e-3, live BatchNorm: for trunks that start without weights",
    optimizer="adam",
    lr=1e-3,
    batch_norm="live",
)
