"""What somebody must know to use a model's file: what goes in, what comes out, where it is from.

It lies beside the file as JSON, ``winner.onnx.json`` beside ``winner.onnx``. For a model of another
program the first four words are enough: ``resize_px``, ``crop_px``, ``compare`` and ``scale``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.study import checksums, records
from protocols.errors import InvalidInputError
from protocols.protocol import Extent, hw

if TYPE_CHECKING:
    from protocols.trunk import InputScale

FORMATS = (".safetensors", ".pt2", ".onnx")
Compare = Literal["angle", "distance"]
_NEEDED = '{"resize_px": 256, "crop_px": 224, "compare": "angle", "scale": null}'
# How a file becomes the pixels that this program embeds, for those who use a model without it.
DECODING = (
    "The first frame, turned upright by its EXIF note, as RGB: transparency lies on white, 16 bits "
    "a channel are scaled to 8, colour profiles are not applied; resizing is antialiased bilinear, "
    "and the longer side is cut to a whole number of pixels, not rounded."
)


@dataclass(frozen=True)
class Description:
    """A model in words and numbers.

    Attributes:
        resize_px: shorter side that an image is resized to, antialiased bilinear.
        crop_px: side of the square from its centre that the model takes, or height and width.
        compare: embeddings are compared by ``angle`` or by Euclidean ``distance``.
        scale: how pixels in 0..255 RGB are scaled before the model: ``mean``, ``std``,
            ``factor``, ``bgr``; null where the model does that itself, as those exported here.
        name: of its row in a table.
        size: numbers in an embedding; 0 where nobody has said.
        batch: images that were embedded together when it was measured.
        decoding: how a file becomes pixels, in words; empty where nobody has said.
        origin: study, cell, seed, folds, settings, scores and checksums; empty for a peer's.
        sha256: of the file it describes; empty where nobody has said.
    """

    resize_px: int
    crop_px: Extent
    compare: Compare
    scale: dict[str, Any] | None
    name: str = ""
    size: int = 0
    batch: int = 256
    decoding: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""

    @property
    def by_angle(self) -> bool:
        """Return whether embeddings are compared by angle."""
        return self.compare == "angle"

    @property
    def scaling(self) -> InputScale | None:
        """Return what scales pixels before the model, None where it does so itself."""
        return None if self.scale is None else scaling_of(self.scale)


def scaling_of(words: dict[str, Any]) -> InputScale:
    """Return the scaling that ``mean``, ``std``, ``factor`` and ``bgr`` say, as JSON holds them.

    Raises:
        TypeError: other words.
    """
    from protocols.trunk import InputScale  # here: it imports torch

    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in words.items()}
    return InputScale(**given)


def extent_of(value: Any) -> Extent:
    """Return a side, or height and width, as JSON holds it.

    Raises:
        TypeError: neither.
    """
    if isinstance(value, list) and len(value) == 2:
        return (value[0], value[1])
    if type(value) is int:
        return value
    raise TypeError(f"crop_px {value!r}: expected a whole number, or height and width")


def check_ending(to: Path) -> None:
    """Raise InvalidInputError unless a model can be written under the name ``to``."""
    if to.suffix not in FORMATS:
        raise InvalidInputError(f"--to {to}: expected a name that ends in {', '.join(FORMATS)}")


def beside(path: Path) -> Path:
    """Return where the description of the file at ``path`` lies."""
    return path.with_name(f"{path.name}.json")


def write(path: Path, description: Description) -> None:
    """Write the description of the file at ``path``, which is there already.

    Raises:
        StoreError: it cannot be written.
    """
    body = {**asdict(description), "sha256": checksums.of_file(path)}
    text = json.dumps(body, indent=1, allow_nan=False, ensure_ascii=False)
    records.write_bytes(beside(path), f"{text}\n".encode())


def read(path: Path) -> Description:
    """Return the description of the model in the file at ``path``.

    Raises:
        InvalidInputError: one of the two is missing, or they do not belong together.
    """
    if not path.is_file():
        raise InvalidInputError(f"model {path}: it does not exist. Give a file made by export")
    told = beside(path)
    if not told.is_file():
        raise InvalidInputError(
            f"model {path}: {told} does not exist. Beside a model lies a JSON file that says what "
            f"goes into it, at least {_NEEDED}"
        )
    try:
        body = _whole(json.loads(told.read_text(encoding="utf-8")))
        found = Description(**{**body, "crop_px": extent_of(body.get("crop_px"))})
        scaling = found.scaling
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{told}: {error}. Expected at least {_NEEDED}") from error
    if wrong := _wrong(found, scaling):
        raise InvalidInputError(f"{told}: {wrong}. Expected at least {_NEEDED}")
    if found.sha256 and found.sha256 != checksums.of_file(path):
        raise InvalidInputError(f"{told} describes another file than {path}; export it again")
    return found


def _whole(body: Any) -> dict[str, Any]:
    """Return what a description's file holds; raise TypeError where it lacks a key, naming it."""
    if not isinstance(body, dict):
        raise TypeError("it holds no object in braces")
    if lacking := [name for name in json.loads(_NEEDED) if name not in body]:
        raise TypeError(f"it lacks {', '.join(lacking)}; add that, or export the model again")
    return body


def _wrong(found: Description, scaling: InputScale | None) -> str:
    """Return which value cannot be, empty if all can."""
    height, width = hw(found.crop_px)
    whole = {"resize_px": found.resize_px, "crop_px": height, "batch": found.batch}
    for name, value in (*whole.items(), ("crop_px", width)):
        if type(value) is not int or value < 1:
            return f"{name} {value!r}: expected a whole number of 1 or more"
    if found.compare not in ("angle", "distance"):
        return f"compare {found.compare!r}: expected angle or distance"
    if scaling and not all(len(values) == 3 for values in (scaling.mean, scaling.std)):
        return "scale: expected three numbers as mean and as std"
    return ""
