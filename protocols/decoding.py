"""From an image file's bytes to upright RGB, and what had to be changed on the way.

Only raster formats are opened: PIL would run a PostScript interpreter on an EPS file.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from protocols.errors import DataError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
MAX_PIXELS = 89_478_485  # 256 MiB as RGB: PIL's own bound
# With its shorter side at 256 px, such an image takes 200 MB; longer ones are no photographs.
MAX_RATIO = 1000
_ORIENTATION = 0x0112
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_BITS_PER_SAMPLE = 258  # of TIFF


@dataclass(frozen=True)
class Decoded:
    """An image as the program sees it.

    Attributes:
        pixels: (H, W, 3) uint8, upright RGB.
        changes: what the file was before, of ``grey``, ``cmyk``, ``palette``, ``16-bit``,
            ``alpha``, ``rotated`` (by its EXIF note), ``frames`` (the first is taken).
    """

    pixels: NDArray[np.uint8]
    changes: tuple[str, ...]


def decode(content: bytes, name: str, then: str = "") -> Decoded:
    """Return the image in ``content``: its first frame, upright, RGB, on white.

    Errors begin with ``name`` and say what to do about the file, ``then`` what to do after that.
    Sixteen bits a channel are scaled to eight. Colour profiles are not applied.

    Raises:
        DataError: not an image, damaged, too large, or of pixels without a known white.
    """
    try:
        return _decode(content, name)
    except DataError as error:
        raise DataError(f"{error}{then}") from error


def _decode(content: bytes, name: str) -> Decoded:
    if not content:
        raise _unreadable(name, "the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _unreadable(name, f"{image.width} x {image.height} px: too large", _SHRINK)
            if max(image.size) > MAX_RATIO * min(image.size):
                much = (
                    f"{image.width} x {image.height} px: over {MAX_RATIO:,} times as long as wide"
                )
                raise _unreadable(name, much, _REPLACE)
            if image.format == "PNG":  # PIL would pass over a wrong checksum of the pixels
                Image.open(io.BytesIO(content)).verify()
            return _decoded(image, content, name)
    except DataError:
        raise
    # The decoders of damaged files raise whatever they stumble over, struct.error to KeyError.
    except Exception as error:
        too_large = isinstance(error, _BOMB)
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"not one of {', '.join(FORMATS)}"
        raise _unreadable(name, reason, _SHRINK if too_large else _REPLACE) from error


def read_file(path: Path, sha256: str) -> bytes:
    """Return the content of ``path``.

    Raises:
        DataError: it cannot be read, or is not the file that was prepared.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown(path)}: {error.strerror}. {_AGAIN}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{shown(path)}: changed since the dataset was prepared. {_AGAIN}")
    return content


def shown(path: Path) -> str:
    """Return ``path`` so that it can be printed: bytes that are no text as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


_AGAIN = "Put the file back or prepare the dataset again: python -m benchmark data prepare"


AND_PREPARE = ", then prepare the dataset again"  # what to do after mending one of its files
_REPLACE = "Replace it by a good copy"
_SHRINK = f"Make it smaller than {MAX_PIXELS:,} pixels"


def _unreadable(name: str, reason: str, remedy: str = _REPLACE) -> DataError:
    return DataError(f"{name}: cannot be read as an image ({reason}). {remedy}")


def _decoded(image: Image.Image, content: bytes, name: str) -> Decoded:
    changes = _kinds(image, content)
    image.load()  # a TIFF is upright from here on: the orientation is read again
    if image.mode in ("I", "F") and image.format not in ("PNG", "PPM"):
        reason = f"{image.mode}: 32 bits a pixel, so how bright white is remains unknown"
        raise _unreadable(name, reason, "Save it with 8 bits a channel")
    turn = _TURN.get(_orientation(image))
    rgb = _rgb(image)
    upright = rgb if turn is None else rgb.transpose(turn)
    return Decoded(np.asarray(upright), changes)


def _kinds(image: Image.Image, content: bytes) -> tuple[str, ...]:
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)
    deep = content[24] if image.format == "PNG" else max(np.atleast_1d(bits))
    met = {
        "grey": image.mode in ("1", "L", "LA") or image.mode.startswith("I"),
        "cmyk": image.mode == "CMYK",
        "palette": image.mode in ("P", "PA"),
        "16-bit": deep > 8 or image.mode.startswith("I"),
        "alpha": _has_alpha(image),
        "rotated": _orientation(image) in _TURN,
        "frames": bool(getattr(image, "is_animated", False)),
    }
    return tuple(kind for kind, is_so in met.items() if is_so)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    # A damaged note says nothing about the pixels: taken as absent, like viewers do.
    except Exception:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; PIL would cut it off at 255
        deep = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8)).convert("RGB")
    if not _has_alpha(image):
        return image.convert("RGB")
    pixels = image.convert("RGBA")
    white = Image.new("RGBA", pixels.size, "white")
    return Image.alpha_composite(white, pixels).convert("RGB")
