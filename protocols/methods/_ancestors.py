"""The losses of triplets by their points' common ancestors, and the gradient of their sum."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TAU = 0.1  # temperature of the choice of an ancestor
BLOCK = 1 << 17  # numbers of an array that stays in a core's cache, beside a dozen such


def triplet_sum(
    d: Tensor, j: Tensor, k: Tensor, gumbel: Tensor, able: Tensor, margin: float
) -> Tensor:
    """Return the () sum of the losses of triplets (point, j, k) of n points.

    The ancestor u of two points is the one with the smallest larger distance, w that of all three;
    both are chosen by a hard Gumbel-softmax: weights of 0 and 1 with the gradient of a softmax.
    With m = ``margin`` a triplet loses, where u is not w::

        [d_iu - d_iw + m]+ + [d_ju - d_jw + m]+ + [d_kw - d_ku + m]+

    The gradient goes to ``d`` alone, once.

    Args:
        d: (n, A) distances of points to ancestors.
        j: (n, T) which point is the second of each point's triplets.
        k: (n, T) which is the third.
        gumbel: (2, n, T, A) noise in the choice of the ancestor of two, and of three.
        able: (n,) whose triplets count.
        margin: m.

    Source: Kim, Jeong and Kwak, CVPR 2023, section 3.3.
    """
    found: Tensor = _Summed.apply(d, j, k, gumbel, able, margin)
    return found


class _Summed(torch.autograd.Function):
    """:func:`triplet_sum` and its gradient in one pass over blocks of points.

    Autograd would write two dozen arrays of n T A numbers to memory and read them again; a block's
    stay in the cache. A GPU takes all at once: there each operation costs its start.
    """

    @staticmethod
    def forward(
        ctx: Any, d: Tensor, j: Tensor, k: Tensor, gumbel: Tensor, able: Tensor, margin: float
    ) -> Tensor:
        total, slope = d.new_zeros(()), torch.zeros_like(d)
        rows = max(1, BLOCK // (j.shape[1] * d.shape[1])) if d.device.type == "cpu" else len(d)
        for start in range(0, len(d), rows):
            part = slice(start, start + rows)
            second, third = j[part], k[part]
            first = d[part, None].expand(*second.shape, -1)
            points = first, _rows(d, second), _rows(d, third)
            lost, slopes = _block(points, gumbel[:, part], able[part, None, None], margin)
            total += lost
            slope[part] += slopes[0].sum(1)
            slope.index_add_(0, second.flatten(), slopes[1].flatten(0, 1))
            slope.index_add_(0, third.flatten(), slopes[2].flatten(0, 1))
        ctx.save_for_backward(slope)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return up[0] * slope, None, None, None, None, None


def _block(
    points: tuple[Tensor, Tensor, Tensor], gumbel: Tensor, able: Tensor, margin: float
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return the () sum of the losses of triplets, and its slope (r, T, A) for each point's d.

    Of two equal distances the earlier point's counts as the larger.

    Args:
        points: (r, T, A) distances of i, of j and of k to the ancestors.
        gumbel: (2, r, T, A).
        able: (r, 1, 1).
        margin: m.
    """
    i, j, k = points
    two = torch.maximum(i, j)
    three = torch.maximum(two, k)
    low = torch.sub(gumbel[0], two, alpha=1 / TAU).softmax(-1)
    high = torch.sub(gumbel[1], three, alpha=1 / TAU).softmax(-1)
    u, w = (soft.max(-1, keepdim=True).indices for soft in (low, high))
    counts = able & (u != w)
    ends = (i, u, w), (j, u, w), (k, w, u)
    hinges = [(d.gather(-1, a) - d.gather(-1, b) + margin).relu() * counts for d, a, b in ends]
    on = [(hinge > 0).to(i) for hinge in hinges]
    # The sum's slope for the weights of u is pull, for those of w the opposite.
    pull = (on[0] * i).addcmul_(on[1], j).addcmul_(on[2], k, value=-1)
    of_three = _through_softmax(high, pull)
    of_k = of_three * _larger(k, two)
    of_two = of_three.sub_(of_k).sub_(_through_softmax(low, pull))
    of_j = of_two * _larger(j, i)
    slopes = of_two.sub_(of_j), of_j, of_k
    for slope, active, (_, a, b) in zip(slopes, on, ends, strict=True):
        slope.scatter_add_(-1, a, active).scatter_add_(-1, b, -active)
    return torch.stack(hinges).sum(), slopes


def _rows(d: Tensor, which: Tensor) -> Tensor:
    """Return the rows (r, T, A) of (n, A) ``d`` that (r, T) ``which`` names."""
    return d.index_select(0, which.flatten()).view(*which.shape, -1)


def _through_softmax(weights: Tensor, slope: Tensor) -> Tensor:
    """Return slopes for the logits times 1 / TAU, from those for a softmax's ``weights``."""
    weighted = weights * slope
    return weighted.addcmul_(weights, weighted.sum(-1, keepdim=True), value=-1).div_(TAU)


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 where a > b, else 0, in a's dtype: a third of the time of a mask made a number."""
    return torch.gt(a, b, out=torch.empty_like(a))
