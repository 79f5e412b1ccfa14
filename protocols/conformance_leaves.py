"""What a method must leave alone: its inputs, its views and the global random generators."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from protocols.method import Batch, Method
from protocols.terms import Term
from protocols.toy_task import (
    SETTLING,
    as_mixed,
    build,
    keeps_random_state,
    toy_batches,
    toy_features,
    train,
    views_of,
)

_SEED = 7_919_104_729  # that no method has reason to seed torch with


@keeps_random_state
def check_leaves_inputs_alone(method: type[Method]) -> None:
    """Features, labels and views are not changed in place."""
    if not method.trains:
        return
    built = build(method)
    for where, batch in toy_batches(built):
        features = toy_features()
        kept, labels = features.clone(), batch.labels.clone()
        shown, mixed = as_mixed(built, features, batch)
        _check_losses(built, views_of(built, shown), mixed)
        assert torch.equal(features, kept), f"the method changed its input features in place{where}"
        assert torch.equal(batch.labels, labels), f"the method changed the labels in place{where}"


def _check_losses(built: Method, views: dict[str, Tensor], batch: Batch) -> None:
    """Raise AssertionError where a loss changes a view, which the next one is handed."""
    handed = dict(views)
    before = {name: view.detach().clone() for name, view in views.items()}
    culprits: dict[str, str] = {}

    def look(term: Term, *_: object) -> None:
        for name in _changed(handed, before):
            culprits.setdefault(name, f"term {term.name!r}")

    for module in built.modules():
        if isinstance(module, Term):
            module.register_forward_hook(look)
    built.losses(views, batch)
    for name in _changed(handed, before):
        raise AssertionError(
            f"{culprits.get(name, 'losses()')} changed view {name!r} in place, and other losses "
            "are handed what it left: work on a copy, as z * 2 makes in place of z.mul_(2)"
        )


def _changed(views: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> list[str]:
    return [name for name, view in before.items() if not torch.equal(views[name], view)]


@keeps_random_state
def check_leaves_generators_alone(method: type[Method]) -> None:
    """It seeds no global generator and draws from no other than torch's."""
    random.seed(1)
    np.random.seed(1)
    python, numpy = random.getstate(), _numpy_state()
    built = build(method, seed=_SEED)
    if method.trains:
        train(built, SETTLING)
    views_of(built.eval(), toy_features())
    seed = torch.initial_seed()
    assert seed == _SEED, (
        f"it seeds torch's generator, with {seed}: the runner has done that, and all seeds of a "
        "study would draw the same. Draw without seeding, or from a torch.Generator of its own"
    )
    for name, same in (
        ("Python's", random.getstate() == python),
        ("numpy's", _numpy_state() == numpy),
    ):
        assert same, (
            f"it seeds or draws from {name} global generator, which belongs to nobody. Draw from "
            "torch's, in plan() from rng, or from a generator of its own"
        )


def _numpy_state() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return (name, np.asarray(keys).tobytes(), *rest)
