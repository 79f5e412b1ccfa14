"""Whether own images have classes enough to fill a batch: seen before anything is written.

Comes in: the study asked for. Goes out: nothing, or a refusal in the words of the first steps,
which would see the same after what is decoded and measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.running.setup import Asked
from benchmark.study import datasets
from benchmark.study.folder import CellKey
from protocols.errors import InvalidInputError


def check_batches(asked: Asked) -> None:
    """Raise InvalidInputError where own images have too few classes for a batch of a method.

    Only cells are looked at that the folder does not hold: they have imported their methods.
    """
    new = [key for key in asked.keys if key.trains and not key.repeat]
    own: dict[str, list[CellKey]] = {}
    for key in new:
        if datasets.is_own(key.dataset) and asked.study.cell_record(key) is None:
            own.setdefault(key.dataset, []).append(key)
    if not own:
        return
    from benchmark.running.preflight import check  # here: it imports torch
    from benchmark.training.first_look import FirstLook

    found = []
    for title, keys in own.items():
        folds = _trained(asked, title)
        found += [(key, FirstLook(problem=_lacking(asked, key, folds))) for key in keys]
    check(found)


def _trained(asked: Asked, title: str) -> list[NDArray[np.int64]]:
    """Return the labels that each fold trains on."""
    from benchmark.training.splits import class_folds
    from protocols.partition import labels_of

    source = asked.sources[title]
    data = asked.registry.load("dataset", source.name).load(source.root)
    known = labels_of(data.labels, len(data.class_names), data.parts, data.rule, data.digest)
    folds = class_folds(known, asked.study.protocol)
    return [known.labels[known.rows(fold.train, ("train",))] for fold in folds]


def _lacking(asked: Asked, key: CellKey, folds: Sequence[NDArray[np.int64]]) -> str:
    """Return why the classes of some fold fill no batch of the cell's method, "" if they do."""
    from benchmark.training.draws import images_per_class, largest
    from protocols.batches import SAMPLERS
    from protocols.method import Method

    method: type[Method] = asked.registry.load("method", key.method)
    if method.plan is not Method.plan:  # its own batches may do without the protocol's
        return ""
    protocol = asked.study.protocol
    try:
        size, per_class = largest(protocol, method), images_per_class(protocol, method)
        for labels in folds:
            next(SAMPLERS[protocol.sampler](labels, size, per_class, np.random.default_rng(0)))
    except InvalidInputError as error:
        return str(error)
    return ""
