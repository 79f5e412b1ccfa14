"""What a method that has its images mixed must keep."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from protocols.method import Batch, Method
from protocols.mixing import mixed, mixing_of
from protocols.toy_task import (
    ROWS,
    SETTLING,
    build,
    corners,
    keeps_random_state,
    loss_of,
    toy_batches,
    toy_features,
    train,
)


@keeps_random_state
def check_knows_what_is_mixed(method: type[Method]) -> None:
    """On mixed images a loss asks for share and partner, and is finite at shares 0 and 1."""
    if not method.trains or not method.wants.mix:
        return
    for settings in corners(method):
        mixing_of(build(method, settings))  # refuses a shape that is none
    built = build(method)
    mixing = mixing_of(built)
    assert mixing is not None
    train(built, SETTLING)  # a loss may begin with something else
    one, other = (
        torch.from_numpy(mixing.draw(ROWS, np.random.default_rng(n))[0]) for n in range(2)
    )
    images = mixed(toy_features(), one, torch.tensor(0.5))
    batches = toy_batches(built)
    assert any(
        _loss(built, images, batch, one, 0.5) != _loss(built, images, batch, other, 0.5)
        for _, batch in batches
    ), (
        "it wants mixed images and its loss does not look at batch.partner and batch.share: it "
        "takes each mixture for an image of the class that only a share of it shows"
    )
    for share in (0.0, 1.0):
        images = mixed(toy_features(), one, torch.tensor(share))
        for where, batch in batches:
            found = _loss(built, images, batch, one, share)
            assert math.isfinite(found), f"loss is {found} at share {share}{where}"


def _loss(built: Method, images: Tensor, batch: Batch, partner: Tensor, share: float) -> float:
    torch.default_generator.manual_seed(3)
    batch = replace(batch, partner=partner, share=torch.tensor(share))
    return loss_of(built, images, batch).item()
