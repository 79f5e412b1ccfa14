"""What a method is told of its fold's training classes beside images and labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.training.splits import DataSource
from protocols.errors import InvalidInputError
from protocols.method import TrainSpec


def fields(source: DataSource, labels: NDArray[np.int64], wanted: Set[str]) -> dict[str, Any]:
    """Return what a method wants to know of training classes, as fields of its TrainSpec.

    Names and groups of other classes are read with them and go when this returns.

    Args:
        source: the dataset.
        labels: (n,) class ids of the fold's training images.
        wanted: of :data:`protocols.method.SIDE`.

    Raises:
        InvalidInputError: the dataset does not hold it.
    """
    if not wanted:
        return {}
    known, found = source.title or source.name, dict[str, Any]()
    classes = np.unique(labels)
    with np.load(source.labels_path, allow_pickle=False) as file:
        held = {name: file[name][classes] for name in ("names", "groups") if name in file.files}
    if "names" in wanted:
        found["names"] = tuple(map(str, held["names"]))
        if all(name.strip().isdecimal() for name in found["names"]):
            raise InvalidInputError(
                f"it wants the names of classes, and dataset {known!r} has numbers for names. "
                "Take a dataset whose classes have names, or another method"
            )
    if "groups" in wanted:
        if "groups" not in held:
            raise InvalidInputError(
                f"it wants the groups of classes, and dataset {known!r} has none. Take a dataset "
                "that says class_groups, like sop, or another method"
            )
        found["groups"] = np.unique(held["groups"], return_inverse=True)[1].astype(np.int64)
    return found


def in_record(spec: TrainSpec) -> dict[str, str]:
    """Return the sha256 of what :func:`fields` gave, for the record; empty if it gave nothing.

    The digest of a dataset is over images and labels, and does not see what classes are called.
    """
    groups = None if spec.groups is None else spec.groups.tolist()
    if spec.names is None and groups is None:
        return {}
    said = json.dumps({"names": spec.names, "groups": groups})
    return {"told_sha256": hashlib.sha256(said.encode()).hexdigest()}
