"""Adam with a triangular cyclical rate, judged at its minima."""

from dataclasses import replace

from protocols.recipe import Cycle
from protocols.recipes import adam

RECIPE = replace(
    adam.RECIPE,
    name="clr",
    summary="adam between a tenth of its rate and twice it, cycles of two epochs",
    cycle=Cycle(half_epochs=1, low=0.1, high=2.0),
)
