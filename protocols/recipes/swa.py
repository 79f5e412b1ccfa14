"""Adam, then an average of the weights of the last quarter at a constant rate."""

from dataclasses import replace

from protocols.recipe import Averaging
from protocols.recipes import adam

RECIPE = replace(
    adam.RECIPE,
    name="swa",
    summary="adam, and the mean of the last quarter's weights as a further candidate",
    averaging=Averaging(),
)
