"""How the batch-hard triplet paper trained TriNet: Adam 3e-4, falling a thousandfold at the end."""

from protocols.recipe import Decay, Recipe

RECIPE = Recipe(
    name="trinet",
    summary="Adam 3e-4, from 3/5 of the budget on falling to a thousandth, live BatchNorm",
    optimizer="adam",
    lr=3e-4,
    batch_norm="live",
    decay=Decay(start=0.6, end=1.0, factor=0.001),  # iterations 15,000 to 25,000
)
