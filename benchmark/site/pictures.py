"""Pictures of datasets that ship with the code: a few of each, and those a comparison names.

Images of other datasets may not be handed on, and are not here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protocols.dataset import Dataset
from protocols.discovery import Registry
from protocols.errors import BenchmarkError

CLASSES, EACH = 12, 6


@dataclass
class Album:
    """The pictures of one dataset that the site shows.

    Attributes:
        name: the dataset's.
        dataset: None where it does not ship.
        files: PNG by address, of all pictures that were asked for.
    """

    name: str
    dataset: Dataset | None
    files: dict[str, bytes] = field(default_factory=dict)

    def sample(self) -> list[tuple[str, list[str]]]:
        """Return (class, addresses of pictures) of a few classes, evenly spread."""
        if self.dataset is None:
            return []
        labels = self.dataset.labels
        classes = np.linspace(0, labels.max(), CLASSES).round().astype(int)
        return [
            (
                self.dataset.class_names[k],
                [self.picture(i) for i in np.flatnonzero(labels == k)[:EACH]],
            )
            for k in dict.fromkeys(classes.tolist())
        ]

    def picture(self, index: int) -> str:
        """Return the address of a picture, and keep its file."""
        address = f"images/{self.name}/{index}.png"
        if self.dataset is not None and address not in self.files:
            buffer = io.BytesIO()
            Image.fromarray(self.dataset.images.read(int(index))).save(buffer, "PNG")
            self.files[address] = buffer.getvalue()
        return address

    def of_test(self, labels: NDArray[np.int32] | None) -> NDArray[np.int64] | None:
        """Return which image of the dataset stands at each position of the test set.

        Args:
            labels: (N,) class ids of the test images, as a row's per-query file has them.

        Returns:
            None where the dataset does not ship, or the labels are not those of its images.
        """
        if self.dataset is None or labels is None:
            return None
        own = self.dataset.labels
        found = np.flatnonzero(np.isin(own, np.unique(labels)))
        same = len(found) == len(labels) and bool((own[found] == labels).all())
        return found if same else None

    def class_name(self, label: int) -> str:
        """Return a class's name, or its number where the dataset is not here."""
        known = self.dataset is not None and label < len(self.dataset.class_names)
        return self.dataset.class_names[label] if known and self.dataset else f"class {label}"


def album(name: str, registry: Registry) -> Album:
    """Return the pictures of a dataset, none where it does not ship with the code."""
    try:
        if not registry.ships("dataset", name) or registry.usage("dataset", name) != name:
            return Album(name, None)
        if getattr(registry.load("dataset", name), "OFFICIAL", None) is not None:
            return Album(name, None)
        return Album(name, registry.load("dataset", name).load(None))
    except BenchmarkError:
        return Album(name, None)
