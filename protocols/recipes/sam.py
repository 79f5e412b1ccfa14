"""Sharpness-aware minimisation over SGD: two gradients a step, so half as many steps.

The radius is that of its authors' example, a Wide ResNet trained on CIFAR-10 from scratch; to
fine-tune EfficientNet-L2 they take 0.1 (google-research/sam).
"""

from dataclasses import replace

from protocols.recipes import sgd_cosine

RECIPE = replace(
    sgd_cosine.RECIPE,
    name="sam",
    summary="sgd_cosine along the gradient of the worst point within 0.05, at two steps' cost",
    sharpness=0.05,
)
