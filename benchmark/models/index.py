"""A gallery that can be searched: faiss over the embeddings of its images, exact."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.models.description import Description
from benchmark.models.images import Item, read_list
from benchmark.models.own_lists import GALLERY
from benchmark.study import checksums, records
from protocols.errors import InvalidInputError, StoreError
from protocols.metrics import unit

VECTORS, IMAGES, ABOUT = "vectors.faiss", "images.csv", GALLERY


@dataclass(frozen=True)
class About:
    """What a gallery was made with.

    Attributes:
        model: path of the model, absolute.
        model_sha256: of its file; queries must be embedded by the same.
        name: of the model's row.
        by_angle: compared by angle, or by Euclidean distance.
        size: numbers in an embedding.
        images: how many there are.
        vectors_sha256, images_sha256: of the two files beside.
    """

    model: str
    model_sha256: str
    name: str
    by_angle: bool
    size: int
    images: int
    vectors_sha256: str
    images_sha256: str


@dataclass(frozen=True)
class Gallery:
    """Images that can be searched."""

    about: About
    items: list[Item]
    index: Any

    def nearest(
        self, rows: NDArray[np.float32], top: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return positions (Q, K) of the nearest images, and how near, best first.

        How near is the cosine, or the Euclidean distance.

        Raises:
            InvalidInputError: embeddings of another size.
        """
        if rows.shape[1] != self.about.size:
            raise InvalidInputError(
                f"queries have {rows.shape[1]} numbers each, the gallery {self.about.size}"
            )
        asked = unit(rows) if self.about.by_angle else rows
        near, found = self.index.search(np.ascontiguousarray(asked), min(top, self.about.images))
        if not self.about.by_angle:
            near = np.sqrt(np.maximum(near, 0.0))  # faiss gives squares
        return found.astype(np.int64), near.astype(np.float32)


def write(
    folder: Path,
    model: Path,
    description: Description,
    items: Sequence[Item],
    rows: NDArray[np.float32],
) -> None:
    """Write a gallery of ``items`` with embeddings ``rows`` (N, D) into ``folder``.

    The file that says what the others are comes last, so a gallery is whole or none.

    Raises:
        StoreError: the folder cannot be written.
    """
    faiss = _faiss()
    by_angle = description.by_angle
    made = faiss.IndexFlatIP(rows.shape[1]) if by_angle else faiss.IndexFlatL2(rows.shape[1])
    made.add(np.ascontiguousarray(unit(rows) if by_angle else rows))
    records.write_bytes(folder / VECTORS, faiss.serialize_index(made).tobytes())
    records.write_bytes(folder / IMAGES, table(items))
    about = About(
        model=str(model.resolve()),
        model_sha256=checksums.of_file(model),
        name=description.name,
        by_angle=by_angle,
        size=rows.shape[1],
        images=len(items),
        vectors_sha256=checksums.of_file(folder / VECTORS),
        images_sha256=checksums.of_file(folder / IMAGES),
    )
    text = json.dumps(asdict(about), indent=1)  # a path may be no text: its bytes as escapes
    records.write_bytes(folder / ABOUT, f"{text}\n".encode())


def read(folder: Path) -> Gallery:
    """Return the gallery in ``folder``.

    Raises:
        InvalidInputError: there is none.
        StoreError: a file of it is damaged.
    """
    if not (folder / ABOUT).is_file():
        raise InvalidInputError(
            f"no gallery in {folder}. Make one: python -m benchmark index MODEL IMAGES --to "
            f"{shlex.quote(str(folder))}"
        )
    again = "Make the gallery again with index"
    try:
        about = About(**json.loads((folder / ABOUT).read_text(encoding="utf-8")))
        for name, expected in (
            (VECTORS, about.vectors_sha256),
            (IMAGES, about.images_sha256),
        ):
            if checksums.of_file(folder / name) != expected:
                raise StoreError(f"{folder / name} is not what was written. {again}")
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{folder / ABOUT}: {error}. {again}") from error
    return Gallery(about, read_list(folder / IMAGES), _faiss().read_index(str(folder / VECTORS)))


def table(items: Sequence[Item]) -> bytes:
    """Return a list of images as CSV: path, absolute, and label and part where one has some."""
    text = io.StringIO(newline="")
    columns = ["path", *(c for c in ("label", "part") if any(getattr(i, c) for i in items))]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for item in items:
        row = {"path": item.path.resolve(), "label": item.label, "part": item.part}
        writer.writerow([row[column] for column in columns])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _faiss() -> Any:
    """Return the package; importing it takes a while, and it has no types."""
    return import_module("faiss")
