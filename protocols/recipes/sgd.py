"""SGD with momentum, for trunks that start from weights.

It takes gradients as they are, and losses here differ in scale by orders of magnitude (some are
sums over a batch, some means), which Adam's division hides. So their norm is limited, and the rate
rises over the first hundred steps, while a head without weights still gives rough gradients.
"""

from protocols.recipe import Recipe

RECIPE = Recipe(
    name="sgd",
    summary="SGD 1e-2, momentum 0.9, decay 1e-4, gradient norm at most 10, 100 steps of warm-up",
    optimizer="sgd",
    lr=1e-2,
    weight_decay=1e-4,
    momentum=0.9,
    warmup_steps=100,
    clip=10.0,
)
