"""A cyclical rate with the weights of the last minima averaged."""

from dataclasses import replace

from protocols.recipe import Averaging
from protocols.recipes import clr

RECIPE = replace(
    clr.RECIPE,
    name="swa_clr",
    summary="clr, and the mean of the weights at the minima of the last half",
    averaging=Averaging(start=0.5),
)
