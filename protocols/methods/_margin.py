"""Margin loss with a constant boundary, on sampled triplets of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from protocols import dense
from protocols.methods._distances import distances

NEAREST = 0.5  # distance below which a negative is not told from others, or not taken
FAINT = -50.0  # log-weight of a negative too far away to count: about never


def margin_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    boundary: float,
    margin: float,
    weighted: bool,
    drawn: tuple[Tensor, ...] = (),
) -> Tensor:
    """Return the () loss of (B, D) embeddings, compared by the distance of unit vectors.

    Hinges relu(d_ap - boundary + margin) and relu(boundary - d_an + margin) over as many
    triplets as there are ordered positive pairs, divided by the number of active hinges.

    Args:
        embeddings: (B, D), any length.
        labels: (B,).
        boundary: beta, the distance between near and far.
        margin: on either side of it.
        weighted: negatives are drawn by distance (Wu et al. 2017) up to where their hinge is 0,
            or else the nearest ones beyond a distance of 0.5 are taken (the released code of
            Divide and Conquer).
        drawn: what :func:`gumbel` gave (B, B), where it was drawn before.
    """
    z = normalize(embeddings)
    d = distances(z)
    seen = d.detach()
    # Beyond this distance a negative's hinge is 0 and it would teach nothing.
    cut = boundary + margin
    preference = by_distance(seen, z.shape[1], cut, drawn) if weighted else by_nearness(seen)
    if not dense.on_host(z):
        return dense_hinges(d, preference, labels, boundary=boundary, margin=margin)
    anchor, positive, negative = triplets(preference, labels)
    if not len(anchor):
        return embeddings.sum() * 0.0
    return hinges(d[anchor, positive], d[anchor, negative], boundary=boundary, margin=margin)


def hinges(near: Tensor, far: Tensor, *, boundary: float, margin: float) -> Tensor:
    """Return the sum of both hinges over (T,) distances, divided by how many are active."""
    pull, push = relu(near - boundary + margin), relu(boundary - far + margin)
    # Counted as numbers: an "or" would count a triplet with both hinges active once.
    active = (pull > 0).sum() + (push > 0).sum()
    return (pull.sum() + push.sum()) / active.clamp(min=1)


def dense_hinges(
    d: Tensor, preference: Tensor, labels: Tensor, *, boundary: float, margin: float
) -> Tensor:
    """Return :func:`hinges` of all :func:`triplets` with fixed shapes, 0 without any."""
    positive, negative = dense.pairs(labels)
    ranked, order = preference.masked_fill(~negative, -torch.inf).sort(
        dim=1, descending=True, stable=True
    )
    place = (positive.cumsum(1) - 1).clamp(min=0)
    takes = positive & (ranked.gather(1, place) > -torch.inf)
    near, far = dense.chosen(d, takes), d.gather(1, order.gather(1, place))
    pull = dense.chosen(relu(near - boundary + margin), takes)
    push = dense.chosen(relu(boundary - far + margin), takes)
    active = (pull > 0).sum() + (push > 0).sum()
    return (pull.sum() + push.sum()) / active.clamp(min=1)


def triplets(preference: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return anchor, positive and negative of each triplet, (T,) each.

    Every anchor has its positives once each, and as many different negatives, by preference.

    Args:
        preference: (B, B), larger is taken first; -inf is never taken.
        labels: (B,).
    """
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    ranked, order = preference.masked_fill(same, -torch.inf).sort(
        dim=1, descending=True, stable=True
    )
    anchor, which = positive.nonzero(as_tuple=True)
    place = positive.cumsum(1)[anchor, which] - 1  # the pair's number among its anchor's
    takes = ranked[anchor, place] > -torch.inf
    anchor, which, place = anchor[takes], which[takes], place[takes]
    return anchor, which, order[anchor, place]


def by_distance(d: Tensor, size: int, cut: float, drawn: tuple[Tensor, ...] = ()) -> Tensor:
    """Return random preferences (B, B) that draw by distance, without replacement.

    A draw is likely in inverse proportion to how often points of a sphere lie so far apart.
    Adding Gumbel noise to log-weights and taking the largest is that draw.
    """
    (noise,) = drawn or (gumbel(len(d)),)
    return log_weights(d, size, cut) + noise.to(d.device)


def gumbel(rows: int) -> Tensor:
    """Return Gumbel noise (rows, rows) from torch's current CPU generator."""
    return -torch.log(-torch.log(torch.rand(rows, rows).clamp(1e-20, 1 - 1e-7)))


def log_weights(d: Tensor, size: int, cut: float) -> Tensor:
    """Return log-weights of distances between unit vectors of ``size`` dimensions.

    Args:
        d: (B, B) distances.
        size: dimensions of the vectors.
        cut: the distance at which the loss of a negative reaches 0, boundary + margin; those
            beyond it are drawn only where nearer ones run out.

    Source: Wu et al. 2017, arXiv:1706.07567, equation 3; distances below 0.5 count as 0.5.
    """
    near = d.clamp(min=NEAREST)
    density = (size - 2) * near.log() + (size - 3) / 2 * (1 - near.square() / 4).clamp(
        min=1e-8
    ).log()
    return torch.where(d < cut, -density, FAINT - density.abs().amax())


def by_nearness(d: Tensor) -> Tensor:
    """Return preferences (B, B): nearer first, none within a distance of 0.5."""
    return (-d).masked_fill(d <= NEAREST, -torch.inf)
