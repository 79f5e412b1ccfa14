"""What a dataset is: images, labels and the published partition of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from protocols.errors import InvalidInputError
from protocols.partition import Rule

RECALL_AT = (1, 2, 4, 8)  # of CUB-200-2011 and Cars196 in Song et al., CVPR 2016

Sizes = NDArray[np.int64]  # (B, 2): height, width of images


class Images(Interface):
    """A numbered collection of RGB images.

    They are read one after the other, unless the class says ``concurrent = True``: then several
    threads may call ``read`` at the same time.
    """

    def __len__(self) -> int:
        """Return how many images there are."""
        ...

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return image ``index`` as (H, W, 3) uint8, upright RGB.

        Raises:
            DataError: the image cannot be read; the message names the file.
        """
        ...


@dataclass(frozen=True)
class ArrayImages:
    """Images of one size that are already decoded."""

    pixels: NDArray[np.uint8]  # (N, H, W, 3)

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return image ``index`` as (H, W, 3) uint8."""
        image: NDArray[np.uint8] = self.pixels[index]
        return image


@dataclass(frozen=True)
class Dataset:
    """Images with labels, as a dataset file in ``protocols/datasets/`` returns them.

    Attributes:
        name: the name on the command line.
        images: the pictures, in the order of ``labels``.
        labels: (N,) int64, 0-based and contiguous; class ids follow the order in which
            the split rules see the classes.
        class_names: one name per label.
        digest: sha256 (hex) over pixels' source and labels: two datasets with the same
            digest hold the same pictures under the same labels. Names and groups are not in it:
            the record of a job that was told some holds their sha256.
        parts: (N,) the named part of each image, of :data:`protocols.partition.PARTS`, or None
            where none are named.
        rule: how classes fall into training and test, see :mod:`protocols.partition`.
        class_groups: the coarser class of each label, by name, None where there are none.
        sums: the sha256 (hex) of each image's file, None where images are not files.
    """

    name: str
    images: Images
    labels: NDArray[np.int64]
    class_names: Sequence[str]
    digest: str
    parts: NDArray[np.str_] | None = None
    rule: Rule = "halves"
    class_groups: Sequence[str] | None = None
    sums: Sequence[str] | None = None


def recall_at(module: object, name: str) -> tuple[int, ...]:
    """Return the k of the recalls that are reported on a dataset's test images.

    A dataset's module may name those of its literature as ``RECALL_AT``; others get those of
    CUB-200-2011, which suit small sets of one's own as well. They choose nothing.

    Raises:
        InvalidInputError: what it names is not rising whole numbers from 1.
    """
    asked = tuple(getattr(module, "RECALL_AT", RECALL_AT))
    whole = all(type(k) is int and k > 0 for k in asked)
    if not asked or not whole or list(asked) != sorted(set(asked)):
        raise InvalidInputError(
            f"dataset {name!r} names RECALL_AT = {asked}: expected one whole number or more, "
            "each 1 or larger, in rising order, like (1, 2, 4, 8)"
        )
    return asked
