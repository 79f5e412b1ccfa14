"""What a method gives, looked at where it is read: whatever else it gives is refused by name.

Only types are looked at, so nothing waits for a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor

from protocols.blame import called, written
from protocols.errors import PluginError
from protocols.method import Batch, Draw, Features, Method, Probe
from protocols.terms import Term


def check_built(method: Method) -> None:
    """Raise PluginError unless a method's own ``__init__`` has called that of Method."""
    if "terms" not in vars(method).get("_modules", {}):
        raise PluginError(
            f"{written(type(method).__init__)} does not call super().__init__(spec, **settings), "
            "which makes head and terms: add that call"
        )


def views_from(method: Method, features: Features) -> dict[str, Tensor]:
    """Return the views that a method's ``forward`` gives of ``features``.

    Raises:
        PluginError: they are no dict, or there is no tensor ``embedding`` among them.
    """
    views: object = method(features)
    if isinstance(views, dict) and isinstance(views.get("embedding"), Tensor):
        return views
    met = "Tensor" if isinstance(views, Tensor) else called(views)  # it may be of a subclass
    if isinstance(views, dict):
        met = f"a dict of {', '.join(map(repr, views)) or 'nothing'}"
        if "embedding" in views:
            met = f"{called(views['embedding'])} as view 'embedding'"
    raise PluginError(
        f"{written(type(method).forward)} returned {met}; expected a dict of views with "
        "'embedding', a tensor: return {'embedding': z}"
    )


def losses_of(method: Method, views: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Return the loss terms by name, to be summed for a step of training.

    Raises:
        PluginError: they are no dict of tensors, or none of them depends on the views.
    """
    found: object = method.losses(views, batch)
    where = written(type(method).losses)
    if not isinstance(found, dict):
        raise PluginError(
            f"{where} returned {called(found)}; expected a dict of () tensors, by name"
        )
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise PluginError(
                f"{where} returned {called(value)} as {name!r}; expected a tensor of shape ()"
            )
    learns = any(value.requires_grad for value in found.values())
    seen = [view for view in views.values() if isinstance(view, Tensor)]
    if found and not learns and any(view.requires_grad for view in seen):
        terms = [m for m in method.modules() if isinstance(m, Term) and m.name in found]
        if terms:
            where = f"term {terms[0].name!r}: {written(terms[0].loss)}"
        raise PluginError(
            f"{where} returned a tensor without gradient; expected one that is computed from its "
            "views: item(), float(), detach() and torch.tensor() cut gradients. Where there is "
            "nothing to compare, return z.sum() * 0"
        )
    return found


def plan_of(
    method: Method, epoch: int, probe: Probe, rng: np.random.Generator
) -> Iterator[Draw] | None:
    """Return the batches that a method lays out for ``epoch``, None where it leaves that be.

    Raises:
        PluginError: it gives something else than batches, at once or when one is asked for.
    """
    plan: object = method.plan(epoch, probe, rng)
    if plan is None:
        return None
    if isinstance(plan, Draw) or not isinstance(plan, Iterable):
        raise PluginError(
            f"{written(type(method).plan)} returned {called(plan)}; expected batches: yield "
            "Draw(positions, group) for each, or return None"
        )
    return _draws(plan, written(type(method).plan))


def _draws(plan: Iterable[object], where: str) -> Iterator[Draw]:
    for draw in plan:
        if not isinstance(draw, Draw):
            raise PluginError(
                f"{where} gave {called(draw)} as a batch; expected Draw(positions, group)"
            )
        yield draw
