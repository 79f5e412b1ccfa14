"""What a search may vary: a method's declared hyperparameters, within its paper's bounds.

Without torch and without the method's class, so that a stated search space can be compared with
what a source file declares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from protocols import paper
from protocols.space import Choice, Hyperparameter, Integer, Real, Setting, Space


def search_space(
    own: Space,
    paper_name: str,
    published: Mapping[str, Setting],
    dataset: str,
    bounds: Literal["wide", "narrow"] = "wide",
) -> Space:
    """Return what the search may vary on ``dataset``; see :meth:`protocols.method.Method.space`.

    Args:
        own: what the method declares.
        paper_name: its name in :mod:`protocols.paper`, "" for others.
        published: the settings that its authors used on this dataset.
        dataset: the dataset's name.
        bounds: the protocol's, for the methods of the paper.

    Raises:
        InvalidInputError: a published value outside its bounds.
    """
    found = _paper_space(own, paper_name, dataset, bounds) or dict(own)
    found.update(_unsearched(own))
    for name, value in published.items():
        found[name] = found[name].starting_at(value)
    return found


def search_at(
    space: Space,
    own: Space,
    paper_name: str,
    dataset: str,
    bounds: Literal["wide", "narrow"],
    batch_size: int,
) -> Space:
    """Return ``space`` with the bounds of the paper's own search at ``batch_size``.

    It made one at 256 on ``cub200``, beside those at 32, whose bounds hold at all other sizes. One
    reaches below what the method declares, by a hundred-thousandth of its range (``alpha`` of
    ``ms_miner``), and is cut off there.

    Args:
        space: of :func:`search_space`.
        own: what the method declares.
        paper_name: its name in :mod:`protocols.paper`, "" for others.
        dataset: the dataset's name.
        bounds: the protocol's.
        batch_size: images in a training batch.
    """
    if not paper_name or batch_size == paper.BATCH_SIZE:
        return space
    found = Space(space)
    ends = paper.search_space(paper_name, dataset, batch_size, bounds)
    for name, (low, high, log) in ends.items():
        declared = own[name]
        assert isinstance(declared, (Real, Integer))
        inside = paper.Bounds(max(low, declared.low), min(high, declared.high), log)
        found[name] = _axis(declared, inside, space.get(name, declared).default)
    return found


def _unsearched(own: Space) -> Iterator[tuple[str, Choice[Any]]]:
    """Yield the options that no search varies, each with its default alone."""
    for name, parameter in own.items():
        if isinstance(parameter, Choice) and not parameter.searched:
            only = Choice((parameter.default,), default=parameter.default)
            only.name = name
            yield name, only


def _paper_space(
    own: Space, paper_name: str, dataset: str, bounds: Literal["wide", "narrow"]
) -> Space:
    """Return the paper's search space in the method's own descriptors; empty if it has none."""
    if not paper_name:
        return {}
    found = Space()
    ends = paper.search_space(paper_name, dataset, bounds=bounds)
    for name, each in ends.items():
        found[name] = _axis(own[name], each, own[name].default)
    for name, value in paper.fixed(paper_name, dataset).items():
        found[name] = Choice((value,), default=value)
    for name, parameter in found.items():
        parameter.name = name
    return found


def _axis(declared: Hyperparameter[Any], ends: paper.Bounds, default: float) -> Real | Integer:
    """Return a searched parameter of the kind that is declared, its default within the bounds."""
    low, high, log = ends
    default = min(max(default, low), high)
    found: Real | Integer
    if isinstance(declared, Integer):
        found = Integer(int(low), int(high), default=int(default), log=log)
    else:
        found = Real(low, high, default=default, log=log)
    found.name = declared.name
    return found
