"""What a method with a teacher must keep."""

from __future__ import annotations

from dataclasses import replace

import torch

from protocols.contract import views_from
from protocols.method import Method
from protocols.space import declared, defaults
from protocols.teacher import PREFIX
from protocols.toy_task import (
    PHASES,
    SETTLING,
    SPEC,
    as_features,
    as_mixed,
    build,
    corners,
    keeps_random_state,
    looked_at,
    toy_batch,
    toy_features,
    train,
    views_of,
)


@keeps_random_state
def check_imitates_its_teacher(method: type[Method]) -> None:
    """With a teacher, a loss looks at a view of it, leaves it as it is, and embeds without it."""
    taught = _taught(method)
    if not taught:
        return
    for built in taught:  # of which some may weigh the teacher with nothing
        _check_names(built)
    train(taught[0], SETTLING)  # from here on the teacher is not the method itself
    assert any(_reads(built) for built in taught), (
        f"it has a teacher and no loss reads a view {PREFIX}...: leave the teacher out, whose "
        "forward passes cost seconds"
    )


def ever_taught(method: type[Method]) -> bool:
    """Return whether a method has a teacher under some setting."""
    return bool(_taught(method))


def _taught(method: type[Method]) -> list[Method]:
    """Return the method under those settings, of its defaults and corners, that have a teacher."""
    every = [build(method, s) for s in (defaults(declared(method)), *corners(method))]
    return [built for built in every if built.teacher is not None]


def _check_names(built: Method) -> None:
    for mode in (True, False):
        views = views_from(built.train(mode), as_features(toy_features(), built.wants.stages))
        own = [name for name in views if name.startswith(PREFIX)]
        assert not own, f"its forward gives view {own[0]!r}: such names are the runner's"
    built.train()


def _reads(built: Method) -> bool:
    """Return whether a loss depends on the teacher's views, which it must not write to."""
    torch.default_generator.manual_seed(3)
    images, first = as_mixed(built, toy_features(), toy_batch())
    views = views_of(built, images)
    kept = {name: view.clone() for name, view in views.items() if name.startswith(PREFIX)}
    other = views | {name: view.flip(0) for name, view in kept.items()}
    found = False
    for step in sorted({*PHASES, *looked_at(built)}):
        batch = replace(first, step=step, epoch=step // SPEC.steps_per_epoch)
        values = []
        for seen in (views, other):
            torch.default_generator.manual_seed(3)
            values.append(torch.stack(list(built.losses(dict(seen), batch).values())).sum())
        found = found or not torch.equal(*values)
    for name, view in kept.items():
        assert torch.equal(views[name], view), f"a loss writes to view {name!r} of its teacher"
    return found
