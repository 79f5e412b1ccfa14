"""Sharpness-aware minimisation over SGD: two gradients a step, so half as many steps.

The radius is the one its authors kept for every network and data set of theirs.
"""

from dataclasses import replace

from protocols.recipes import sgd_cosine

RECIPE = replace(
    sgd_cosine.RECIPE,
    name="sam",
    summary="sgd_cosine along the gradient of the worst point within 0.05, at two steps' cost",
    sharpness=0.05,
)
