"""What a method must keep that is told more of its training classes than images and labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from protocols.method import Method, TrainSpec
from protocols.space import declared, defaults
from protocols.toy_task import HALF, corners, fingerprint, keeps_random_state, spec_for


@keeps_random_state
def check_uses_what_it_is_told(method: type[Method]) -> None:
    """Other names or groups of the same classes make another loss, plan or embedding."""
    spec = spec_for(method, HALF)
    for what, other in _others(spec).items():
        alive = any(
            fingerprint(method, settings, spec) != fingerprint(method, settings, other)
            for settings in (defaults(declared(method)), *corners(method))
        )
        assert alive, (
            f"it is told the {what} of classes and they change nothing: take {what!r} out of "
            "Wants(side=...), which puts its row in a block of its own"
        )


def _others(spec: TrainSpec) -> dict[str, TrainSpec]:
    """Return the task with one thing that it says of the classes given to other ones."""
    order, found = np.random.default_rng(3).permutation(spec.classes), dict[str, TrainSpec]()
    if spec.names is not None:
        found["names"] = replace(spec, names=tuple(spec.names[n] for n in order))
    if spec.groups is not None:
        found["groups"] = replace(spec, groups=spec.groups[order])
    return found
