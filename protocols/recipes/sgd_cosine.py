"""SGD with momentum whose rate rises, then falls to nothing along half a cosine."""

from dataclasses import replace

from protocols.recipe import Cosine
from protocols.recipes import sgd

RECIPE = replace(
    sgd.RECIPE,
    name="sgd_cosine",
    summary="sgd, its rate falling along a cosine to 0 at the end of the budget",
    cosine=Cosine(),
)
