"""The additive angular margin that ArcFace and Sub-center ArcFace share."""

import math

import torch
from torch import Tensor


def with_margin(cosine: Tensor, margin: float, *, plain: bool = False) -> Tensor:
    """Return the cosine of (angle + margin), element by element.

    Where the sum passes 180 degrees, cosine - margin * sin(margin) keeps it falling; a plain
    cosine would rise again there and push such samples farther away.

    Args:
        cosine: of the angles, any shape.
        margin: radians.
        plain: the cosine also beyond 180 degrees.

    Source: Deng et al., "ArcFace", CVPR 2019, section 3, and the fallback in the authors' code.
    """
    # Through the sine, not acos, whose slope is infinite for a sample on its class vector.
    squared = 1 - cosine.square()
    sine = torch.where(squared > 1e-12, squared.clamp(min=1e-12).sqrt(), 0.0)
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    if plain:
        return turned
    return torch.where(cosine >= -math.cos(margin), turned, cosine - margin * math.sin(margin))
