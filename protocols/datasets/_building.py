"""What the build scripts of embedded datasets share: packages, the order of classes, the data file.

A build script lies beside its data as ``build.py`` and runs as
``python -m protocols.datasets.NAME.build --out DIR``. The committed data file is what counts; the
script says how it came about.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protocols.datasets._embedded import CHECKSUM
from protocols.errors import DataError

Pictures = NDArray[np.uint8]  # (N, side, side, 3)
SHEET_IMAGES = 255  # a WebP side is at most 16,383 px: 255 images of 64 px below each other
FORMAT = 1


@dataclass(frozen=True)
class Contents:
    """What a data file holds.

    Attributes:
        pixels: (N, side, side, 3) uint8, sorted by (label, style).
        labels: (N,) 0-based labels.
        class_names: a name for each label.
        styles: the names of the sheets: what images of different classes have in common.
        style: (N,) which of ``styles`` each image has.
        about: what else the manifest says: sources, their versions, the salt.
    """

    pixels: Pictures
    labels: Sequence[int]
    class_names: Sequence[str]
    styles: Sequence[str]
    style: Sequence[int]
    about: Mapping[str, object] = field(default_factory=dict)


def fetch(scope: str, packages: Mapping[str, str], folder: Path) -> None:
    """Download and unpack npm packages of ``scope``, each into a folder of its name.

    Args:
        scope: like ``@fontsource``.
        packages: name -> pinned version.
        folder: where the packages' folders are made.

    Raises:
        DataError: npm is missing, or a package could not be fetched.
    """
    for name, pinned in packages.items():
        spec = f"{scope}/{name}@{pinned}"
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder), spec]
        try:
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise DataError("npm: not found; install it or pass --packages DIR") from None
        except subprocess.CalledProcessError as error:
            raise DataError(f"npm pack {spec}: {error.stderr.strip()}; try again") from error
        with tarfile.open(folder / done.stdout.split()[-1]) as archive:
            archive.extractall(folder, filter="data")  # into a folder called package
        (folder / "package").rename(folder / name)


def by_hash(names: Iterable[str], salt: str) -> list[str]:
    """Return the names in label order: by the sha256 of ``salt`` and name.

    Training and test classes are halves of the label range, so neighbours in an alphabet or a
    catalogue must not be neighbours there.
    """
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}/{name}".encode()).hexdigest())


def alike(pictures: NDArray[np.uint8], limit: float) -> Iterator[tuple[int, int, float]]:
    """Yield every pair of pictures whose mean absolute difference is below ``limit`` of 255.

    The mean difference of two pictures' block means is never above that of their pixels, so only
    pairs whose block means are near are compared in full.

    Args:
        pictures: (N, side, side) uint8, ``side`` a multiple of 8.
        limit: of 255.
    """
    count, side = len(pictures), pictures.shape[1]
    blocks = pictures.reshape(count, 8, side // 8, 8, side // 8).mean((2, 4), dtype=np.float32)
    means = blocks.reshape(count, -1)
    for first in range(count - 1):
        bounds = np.abs(means[first + 1 :] - means[first]).mean(1)
        for second in first + 1 + np.flatnonzero(bounds < limit):
            other = pictures[second].astype(np.int16)
            difference = float(np.abs(other - pictures[first]).mean())
            if difference < limit:
                yield first, int(second), difference


def pack(contents: Contents) -> bytes:
    """Return the data file: a manifest, and lossless sheets of one style each.

    The same pictures give the same bytes under the same Pillow.
    """
    pixels, style = contents.pixels, np.asarray(contents.style)
    manifest = {
        "format": FORMAT,
        "side_px": pixels.shape[1],
        **contents.about,
        "pixels_sha256": hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(),
        "styles": list(contents.styles),
        "class_names": list(contents.class_names),
        "labels": list(contents.labels),
        "style": style.tolist(),
    }
    files = {"manifest.json": json.dumps(manifest).encode()}
    for index, word in enumerate(contents.styles):
        drawn = pixels[style == index]
        for number, start in enumerate(range(0, len(drawn), SHEET_IMAGES)):
            column = drawn[start : start + SHEET_IMAGES].reshape(-1, pixels.shape[2], 3)
            buffer = io.BytesIO()
            Image.fromarray(column).save(buffer, "WEBP", lossless=True, method=6, quality=100)
            files[f"{word}-{number}.webp"] = buffer.getvalue()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:  # stored: WebP does not shrink further
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return out.getvalue()


def write(name: str, contents: Contents, folder: Path) -> str:
    """Write ``name.zip`` and ``SHA256`` into ``folder``; return in words what was made."""
    content = pack(contents)
    digest = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.zip").write_bytes(content)
    (folder / CHECKSUM).write_text(f"{digest}  {name}.zip\n", encoding="utf-8")
    return (
        f"{len(contents.class_names)} classes, {len(contents.pixels)} images, "
        f"{len(content):,} bytes, sha256 {digest}"
    )


def contact_sheet(pixels: Pictures, columns: int, gap: int = 4) -> Image.Image:
    """Return the pictures in rows of ``columns`` on white, in at most 256 colours."""
    side, rows = pixels.shape[1], -(-len(pixels) // columns)
    sheet = Image.new("RGB", (columns * (side + gap), rows * (side + gap)), "white")
    for number, picture in enumerate(pixels):
        place = (number % columns * (side + gap), number // columns * (side + gap))
        sheet.paste(Image.fromarray(picture), place)
    return sheet.quantize(256, dither=Image.Dither.NONE)
