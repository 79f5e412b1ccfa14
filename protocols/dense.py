"""Losses of the library in forms of fixed shape, for devices other than the CPU.

The library picks pairs and triplets by index, so the shapes of its tensors depend on the labels
and the host must wait for the device to learn them. Here a mask says which entries of a whole
matrix count. Nothing waits, and a training step can be captured as a graph. Value and gradient
equal the library's up to rounding; the CPU keeps the library's own code and with it its bits.

A configuration that is not met here keeps the library's code as well: :func:`form_of` knows
what ships and answers None for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot, relu, softplus

Form = Callable[[Tensor, Tensor], Tensor]


def on_host(tensor: Tensor) -> bool:
    """Return whether a loss on ``tensor`` runs on the CPU, where nothing waits for a device."""
    return tensor.device.type == "cpu"


def form_of(loss: object, miner: object = None) -> Form | None:
    """Return what computes ``loss`` (and ``miner``) with fixed shapes, None where nothing does.

    The form is called as ``form(embeddings, labels)`` with (B, D) and (B,) and returns a ()
    tensor. It reads the loss's parameters and settings at every call.
    """
    from pytorch_metric_learning import losses, miners, reducers

    if isinstance(miner, miners.MultiSimilarityMiner) and _is_multi_similarity(loss):
        whole = _plain(loss, reducers.MeanReducer)
        return partial(mined_multi_similarity, loss, miner) if whole else None
    if miner is not None or not isinstance(loss, losses.BaseMetricLossFunction):
        return None
    table: dict[type, tuple[Callable[..., Tensor], type, dict[str, object]]] = {
        losses.ContrastiveLoss: (contrastive, reducers.AvgNonZeroReducer, {}),
        losses.TripletMarginLoss: (
            triplet,
            reducers.AvgNonZeroReducer,
            {"swap": False, "smooth_loss": False, "triplets_per_anchor": "all"},
        ),
        losses.MarginLoss: (
            margin,
            reducers.DivisorReducer,
            {"nu": 0, "triplets_per_anchor": "all"},
        ),
        losses.MultiSimilarityLoss: (multi_similarity, reducers.MeanReducer, {}),
        losses.CircleLoss: (circle, reducers.MeanReducer, {}),
        losses.SupConLoss: (supcon, reducers.MeanReducer, {}),
        losses.FastAPLoss: (fastap, reducers.MeanReducer, {}),
        losses.CosFaceLoss: (cosface, reducers.MeanReducer, {}),
        losses.ProxyAnchorLoss: (proxy_anchor, reducers.DivisorReducer, {}),
        losses.SoftTripleLoss: (soft_triple, reducers.MeanReducer, {}),
    }
    if type(loss) not in table:
        return None
    form, reducer, settings = table[type(loss)]
    if any(getattr(loss, name) != value for name, value in settings.items()):
        return None
    if not _plain(loss, reducer, regularised=form is soft_triple):
        return None
    return partial(form, loss)


def _is_multi_similarity(loss: object) -> bool:
    """Return whether ``loss`` is the library's loss or one that only keeps single pairs."""
    from pytorch_metric_learning import losses

    kept = getattr(loss, "keeps_single_pairs", False)
    return type(loss) is losses.MultiSimilarityLoss or (
        kept and isinstance(loss, losses.MultiSimilarityLoss)
    )


def _plain(loss: Any, reducer: type, *, regularised: bool = False) -> bool:
    """Return whether ``loss`` reduces by ``reducer`` alone and regularises nothing further."""
    several = getattr(loss.reducer, "reducers", None)  # one for each part of the loss
    used = {type(part) for part in (several.values() if several else [loss.reducer])}
    free = regularised or getattr(loss, "weight_regularizer", None) is None
    return used == {reducer} and free and loss.embedding_regularizer is None


def pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the masks (B, B) of positive pairs, none of an image with itself, and negatives."""
    same = labels[:, None] == labels
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~own, ~same


def mean_of(values: Tensor, mask: Tensor) -> Tensor:
    """Return the () mean of ``values`` where ``mask`` holds, 0 where it holds nowhere."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def mean_of_violated(values: Tensor, mask: Tensor) -> Tensor:
    """Return the () mean of the values above 0 where ``mask`` holds, 0 if there are none."""
    return mean_of(values, mask & (values > 0))


def chosen(values: Tensor, mask: Tensor) -> Tensor:
    """Return ``values`` where ``mask`` holds: on the CPU these alone, elsewhere the rest is 0."""
    return values[mask] if on_host(values) else torch.where(mask, values, 0.0)


def missed(values: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """Return 1 minus the mean of (B,) ``values`` where ``mask`` holds.

    0 where it holds nowhere; ``source`` is then what the result has its gradient from.
    """
    if not on_host(values):
        return mean_of(1 - values, mask)
    return 1 - values[mask].mean() if mask.any() else source.sum() * 0.0


def log_sum(values: Tensor, mask: Tensor, *, one: bool) -> Tensor:
    """Return log of the sum of exp over each row's (R, C) masked entries, plus 1 if ``one``.

    (R,); 0 for a row without an entry.
    """
    kept = values.masked_fill(~mask, torch.finfo(values.dtype).min)
    if one:
        kept = torch.cat([kept, kept.new_zeros(len(kept), 1)], dim=1)
    return kept.logsumexp(1).masked_fill(~mask.any(1), 0.0)


def contrastive(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return the mean violated hinge of positive pairs plus that of negative ones."""
    d, (positive, negative) = loss.distance(z), pairs(labels)
    pull = relu(loss.distance.margin(d, loss.pos_margin))
    push = relu(loss.distance.margin(loss.neg_margin, d))
    return mean_of_violated(pull, positive) + mean_of_violated(push, negative)


def triplet(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return the mean violated hinge over all triplets; a (B, B, B) tensor."""
    d, (positive, negative) = loss.distance(z), pairs(labels)
    hinge = relu(loss.distance.margin(d[:, :, None], d[:, None, :]) + loss.margin)
    return mean_of_violated(hinge, positive[:, :, None] & negative[:, None, :])


def margin(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return both hinges summed over all triplets, divided by how many are violated.

    A positive pair stands in as many triplets as its anchor has negatives, and the other way
    round, so pairs with these numbers as weights are enough.
    """
    d, (positive, negative) = loss.distance(z), pairs(labels)
    beta = loss.beta if len(loss.beta) == 1 else loss.beta[labels][:, None]
    near = relu(loss.distance.margin(d, beta) + loss.margin)
    far = relu(loss.distance.margin(beta, d) + loss.margin)
    positives, negatives = positive.sum(1, keepdim=True), negative.sum(1, keepdim=True)
    total = torch.where(positive, near * negatives, 0.0).sum()
    total = total + torch.where(negative, far * positives, 0.0).sum()
    violated = ((positive & (near > 0)) * negatives).sum()
    violated = violated + ((negative & (far > 0)) * positives).sum()
    return total / violated.clamp(min=1)


def multi_similarity(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over anchors of their soft violations, all pairs counted."""
    return _soft_violations(loss, loss.distance(z), *pairs(labels)).mean()


def mined_multi_similarity(loss: Any, miner: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return the same on pairs within epsilon of the anchor's hardest opposite pair."""
    positive, negative = pairs(labels)
    with torch.no_grad():
        s = miner.distance(z.detach())
        worst_negative = s.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        worst_positive = s.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        positive = positive & (s - miner.epsilon < worst_negative)
        negative = negative & (s + miner.epsilon > worst_positive)
    found = _soft_violations(loss, loss.distance(z), positive, negative).mean()
    if getattr(loss, "keeps_single_pairs", False):
        return found
    several: Tensor = (positive.sum() > 1) | (negative.sum() > 1)
    return several * found


def _soft_violations(loss: Any, s: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    pull = log_sum(loss.alpha * loss.distance.margin(s, loss.base), positive, one=True)
    push = log_sum(loss.beta * loss.distance.margin(loss.base, s), negative, one=True)
    found: Tensor = pull / loss.alpha + push / loss.beta
    return found


def circle(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over anchors; one without a positive or a negative counts as 0."""
    s, (positive, negative) = loss.distance(z), pairs(labels)
    fixed = s.detach()
    pull = -loss.gamma * relu(loss.op - fixed) * (s - loss.delta_p)
    push = loss.gamma * relu(fixed - loss.on) * (s - loss.delta_n)
    pooled = log_sum(pull, positive, one=False) + log_sum(push, negative, one=False)
    return (softplus(pooled) * (positive.any(1) & negative.any(1))).mean()


def supcon(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return minus the mean log-probability of an anchor's positives, mean over anchors."""
    s, (positive, negative) = loss.distance(z), pairs(labels)
    s = (s if loss.distance.is_inverted else -s) / loss.temperature
    s = s - s.amax(1, keepdim=True).detach()
    log_p = s - log_sum(s, positive | negative, one=False)[:, None]
    anchors = (positive * log_p).sum(1) / positive.sum(1).clamp(min=1)
    found: Tensor = -anchors.mean() * (positive.any() & negative.any())
    return found


def fastap(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - AP over soft bins of distance, mean over anchors that have a positive."""
    d, (positive, negative) = loss.distance(z), pairs(labels)
    largest = 2**loss.distance.power
    middle = torch.linspace(0.0, largest, loss.num_edges, dtype=z.dtype, device=z.device)
    pulse = relu(1 - (d - middle[:, None, None]).abs() / (largest / loss.num_bins))
    near, far = (pulse * positive).sum(2).T, (pulse * negative).sum(2).T  # (B, edges)
    above, everything = near.cumsum(1), (near + far).cumsum(1)
    product = near * above
    counts = (product > 0) & (everything > 0)
    share = torch.where(counts, product / torch.where(counts, everything, 1.0), 0.0).sum(1)
    found = positive.sum(1)
    return mean_of(1 - share / found.clamp(min=1), found > 0) * counts.any()


def cosface(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of scaled cosines, the margin taken off the target's."""
    cosine = loss.get_cosine(z)
    target = one_hot(labels, cosine.shape[1]).to(z.dtype)
    return cross_entropy(loss.scale * (cosine - loss.margin * target), labels)


def proxy_anchor(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over proxies present for positives, plus that over all for negatives."""
    cosine = loss.get_logits(z).T  # (C, B)
    positive = one_hot(labels, loss.num_classes).bool().T
    pull = loss.alpha * loss.distance.margin(cosine, loss.margin)
    push = loss.alpha * loss.distance.margin(-loss.margin, cosine)
    present = positive.any(1).sum().clamp(min=1)
    near, far = log_sum(pull, positive, one=True), log_sum(push, ~positive, one=True)
    found: Tensor = near.sum() / present + far.sum() / loss.num_classes
    return found


def soft_triple(loss: Any, z: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy over classes of softly chosen centres, and the regulariser."""
    similar = loss.get_logits(z)
    target = one_hot(labels, similar.shape[1]).to(z.dtype)
    found = cross_entropy(loss.la * (similar - loss.margin * target), labels)
    if loss.weight_regularizer is None:
        return found
    regulariser: Tensor = loss.weight_regularizer(loss.fc.t()) * loss.weight_reg_weight
    return found + regulariser
