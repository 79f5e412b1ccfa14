"""How Group Loss was trained on CUB-200-2011: RAdam, a tenth of the rate after 30 of 70 epochs.

Its code also reloads the weights that were best on test classes at the drop; here nothing is.
"""

from protocols.recipe import Decay, Recipe

RECIPE = Recipe(
    name="group",
    summary="RAdam 1.56e-4, a tenth of it after 3/7 of the budget, live BatchNorm",
    optimizer="radam",
    lr=1.5636637e-4,
    weight_decay=6.0597226e-6,
    batch_norm="live",
    decay=Decay(start=30 / 70, end=30 / 70, factor=0.1),
)
