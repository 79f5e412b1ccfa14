"""What a method must keep of the batches that it draws and that its loss sees."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import torch
from torch import Tensor

from protocols.contract import losses_of, plan_of
from protocols.method import Method
from protocols.toy_task import (
    HALF,
    ROWS,
    SPEC,
    build,
    corners,
    keeps_random_state,
    loss_of,
    probed,
    toy_batches,
    toy_features,
    views_of,
)
from protocols.two_pass import ALIKE, inexact, two_pass


@keeps_random_state
def check_plan_stays_inside(method: type[Method]) -> None:
    """A plan gives enough batches of training positions, not too large, of two classes or more."""
    built = build(method, spec=HALF)
    for epoch in range(2):
        if not _check_plan(built, epoch):
            return
    for settings in corners(method):
        _check_plan(build(method, settings, spec=HALF), 0, f" at {settings}")


def _check_plan(built: Method, epoch: int, where: str = "") -> bool:
    """Check an epoch's plan; return whether there is one."""
    plan = plan_of(built, epoch, lambda view: probed(built, view), np.random.default_rng(0))
    if plan is None:
        return False
    when, wanted = f"epoch {epoch}{where}", -(-SPEC.steps_per_epoch // built.wants.batches)
    draws = list(itertools.islice(plan, wanted))
    assert len(draws) == wanted, f"{when}: only {len(draws)} batches"
    for draw in draws:
        index = np.asarray(draw.index)
        assert index.size, f"{when}: an empty batch"
        assert index.min() >= 0, f"{when}: a negative position"
        assert index.max() < ROWS, f"{when}: a position outside the training images"
        assert len(np.unique(SPEC.labels[index])) > 1, f"{when}: a one-class batch"
        assert index.size <= built.spec.batch_size, (
            f"{when}: a batch of {index.size} images where spec.batch_size is "
            f"{built.spec.batch_size}: every method trains on as many images. "
            "Wants(batches=...) allows more at their price"
        )
    return True


@keeps_random_state
def check_parts_are_the_whole(method: type[Method]) -> None:
    """A loss on several batches is the same, gradients too, when they go through in parts."""
    if not method.trains or method.wants.batches == 1:
        return
    built, features = build(method), toy_features()
    why = inexact(built, lambda rows: views_of(built, features[rows]), ROWS)
    assert not why, f"a loss on {method.wants.batches} batches goes through in parts, and {why}"
    together = _gradients(method, (slice(0, ROWS),))
    apart = _gradients(method, tuple(slice(at, at + 8) for at in range(0, ROWS, 8)))
    assert together.keys() == apart.keys(), "in parts other parameters get a gradient"
    for name, whole in together.items():
        gap = (whole - apart[name]).norm() / whole.norm().clamp(min=1e-12)
        assert gap <= ALIKE, f"the gradient of {name} in parts is {gap:.1g} of its length away"


def _gradients(method: type[Method], rows: tuple[slice, ...]) -> dict[str, Tensor]:
    """Return the gradients of features and own parameters, of all phases, from some parts."""
    built, features = build(method), toy_features().requires_grad_()
    torch.default_generator.manual_seed(3)
    for _, batch in toy_batches(built):
        if len(rows) == 1:
            loss_of(built, features, batch).backward()  # type: ignore[no-untyped-call]
        else:
            two_pass(
                lambda part: views_of(built, features[rows[part]]),
                len(rows),
                partial(losses_of, built, batch=batch),
            )
    named = {"the features": features, **dict(built.named_parameters())}
    return {name: value.grad for name, value in named.items() if value.grad is not None}
