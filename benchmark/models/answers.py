"""What a search found: as a table, and as one HTML page of pictures."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from benchmark.models.images import Item, pixels_of
from benchmark.models.index import About, Gallery
from protocols.decoding import shown
from protocols.errors import DataError
from protocols.names import seen, to_field

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 60  # queries on a page; the table has all
SIDE = 160  # pixels of a picture's longer side


@dataclass(frozen=True)
class Answer:
    """One image that was found.

    Attributes:
        rank: 1 for the nearest.
        item: the image.
        near: the cosine, or the Euclidean distance.
        right: whether its label is the query's; None where one of them has none.
    """

    rank: int
    item: Item
    near: float
    right: bool | None


@dataclass(frozen=True)
class Asked:
    """A query with its answers, nearest first."""

    query: Item
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Picture:
    """An image on the page; ``src`` is empty where it cannot be read, and ``why`` says why.

    ``path`` and ``name`` can be printed, whatever bytes the file system has in them.
    """

    src: str
    width: int
    height: int
    path: str
    name: str
    label: str
    why: str = ""


def search(
    gallery: Gallery, queries: Sequence[Item], rows: NDArray[np.float32], top: int
) -> list[Asked]:
    """Return the ``top`` nearest gallery images of each query with embeddings (Q, D).

    A query that is in the gallery is left out of its own answers, by its path.
    """
    found, near = gallery.nearest(rows, top + 1)
    return [
        Asked(query, tuple(_answers(gallery, query, found[at], near[at])[:top]))
        for at, query in enumerate(queries)
    ]


def _answers(
    gallery: Gallery, query: Item, found: NDArray[np.int64], near: NDArray[np.float32]
) -> list[Answer]:
    answers: list[Answer] = []
    own = query.path.resolve()
    for position, value in zip(found.tolist(), near.tolist(), strict=True):
        item = gallery.items[position]
        if item.path != own:
            known = bool(query.label and item.label)
            right = query.label == item.label if known else None
            answers.append(Answer(len(answers) + 1, item, value, right))
    return answers


def near_word(about: About) -> str:
    """Return what says how near an answer is."""
    return "cosine" if about.by_angle else "distance"


def to_csv(about: About, asked: Sequence[Asked]) -> bytes:
    """Return a row for every answer."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["query", "query_label", "rank", "path", "label", near_word(about)])
    for one in asked:
        for answer in one.answers:
            found = (*_fields(answer.item), f"{answer.near:.6f}")
            writer.writerow([*_fields(one.query), answer.rank, *found])
    return text.getvalue().encode()


def _fields(item: Item) -> tuple[str, str]:
    """Return an image's path and its label."""
    return to_field(str(item.path)), to_field(item.label)


def to_html(about: About, asked: Sequence[Asked]) -> bytes:
    """Return one page that needs no other file: pictures of the first queries and answers."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=seen,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures: dict[Path, Picture] = {}

    def picture(item: Item) -> Picture:
        if item.path not in pictures:
            pictures[item.path] = _picture(item)
        return pictures[item.path]

    known = [answer for one in asked for answer in one.answers[:1] if answer.right is not None]
    page = environment.get_template("answers.html").render(
        about=about,
        asked=asked[:SHOWN],
        queries=len(asked),
        word=near_word(about),
        picture=picture,
        right_first=sum(bool(answer.right) for answer in known),
        known=len(known),
    )
    return page.encode()


def _picture(item: Item) -> Picture:
    """Return an image as a small JPEG in a data address."""
    names = shown(item.path), shown(Path(item.path.name))
    try:
        image = Image.fromarray(pixels_of(item))
    except DataError as error:  # moved since the gallery was made: the page shows the rest
        return Picture("", SIDE, SIDE, *names, item.label, str(error))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(source, image.width, image.height, *names, item.label)
