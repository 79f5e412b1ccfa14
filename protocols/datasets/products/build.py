"""Build products.zip from 3D models: ``python -m protocols.datasets.products.build --out DIR``.

Needs the catalogues of Debian's package ``sweethome3d-furniture`` 1.8, for ``--catalogues DIR``:
``apt-get download sweethome3d-furniture`` and ``dpkg -x FILE DIR`` put them into
``usr/share/sweethome3d/furniture`` below DIR. The rules, in the order in which they apply:

1. Candidates are the models of four catalogues, furniture and other goods, without those that
   ``catalogue.py`` lists: banknotes, goods with a maker's mark, people.
2. A model whose ``LOOKS``, three fixed views, differ from those of an earlier one by less than
   ``ALIKE`` of 255 on average is left out. Earlier is by the order of rule 3.
3. Class ids follow the sha256 of ``SALT`` and the model's name.
4. A class has ``VIEWS`` images: from any side, 5 to 45 degrees from above, under a light of random
   direction and colour, on a ground of random colour. The goods keep their own colours and
   pictures, as goods do, but the light leaves 40 to 100 % of each channel: under a whiter one
   colours alone gave twice as many classes away.
5. A pixel is the mean of 3 x 3 samples, each channel in 16 shades. A model that fills less than
   ``FAINT`` of one of its images is left out: nobody would see it.

The random numbers of a class come from ``SALT`` and its name alone. The same catalogues give the
same pixels under the same Pillow, which reduces the pictures on the models.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.datasets import _rasteriser as drawing
from protocols.datasets._building import Contents, by_hash, contact_sheet, write
from protocols.datasets._rasteriser import Floats, Samples
from protocols.datasets.products import catalogue, credits, models
from protocols.datasets.products.catalogue import Entry
from protocols.datasets.products.models import Model
from protocols.errors import BenchmarkError

SIDE = 64  # px
SHARPNESS = 3  # a pixel is the mean of 3 x 3 samples
VIEWS = 10
STEP = 17  # 16 shades: 0, 17, ..., 255
LOOKS, LOOK_SIDE = (-150.0, -30.0, 60.0), 24  # degrees to the side, px
ALIKE = 3.0  # mean absolute difference, of 255
FAINT = 0.01  # share of an image's pixels that are not as the ground is
DARK = 0.4  # brightness of a face edge-on to the light
HOLE = 128  # a picture is a hole where its alpha is below
SALT = "products-1"


@dataclass(frozen=True)
class View:
    """How a model is seen.

    Attributes:
        sideways, above: degrees.
        length: of the outline's longer side, as a share of the image.
        shift: (2,) of the outline's middle, as a share of the image, right and down.
        light: (3,) unit vector towards the light.
        tint: (3,) what the light leaves of each channel.
        ground: (3,) colour, 0 to 255.
    """

    sideways: float
    above: float
    length: float
    shift: Floats
    light: Floats
    tint: Floats
    ground: Floats


def views(name: str) -> list[View]:
    """Return the views of a class, from random numbers that its name alone decides."""
    seed = hashlib.sha256(f"{SALT}/{name}".encode()).digest()[:8]
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
    return [_view(rng) for _ in range(VIEWS)]


def _view(rng: np.random.Generator) -> View:
    light = rng.uniform(-1, 1, 3)
    light[1:] = abs(light[1]), abs(light[2]) + 0.5  # from above and from the camera's side
    return View(
        sideways=rng.uniform(-180, 180),
        above=rng.uniform(5, 45),
        length=rng.uniform(0.7, 0.95),
        shift=rng.uniform(-0.04, 0.04, 2),
        light=light / np.sqrt((light * light).sum()),
        tint=rng.uniform(0.4, 1.0, 3),
        ground=rng.uniform(120, 255) + rng.uniform(-30, 30, 3),
    )


def fixed_views() -> list[View]:
    """Return the views that tell models apart: white light, white ground."""
    light = np.array([0.3, 0.5, 0.8])
    return [
        View(
            sideways=sideways,
            above=20.0,
            length=0.9,
            shift=np.zeros(2),
            light=light / np.sqrt((light * light).sum()),
            tint=np.ones(3),
            ground=np.full(3, 255.0),
        )
        for sideways in LOOKS
    ]


def upright(model: Model, rotation: tuple[float, ...]) -> Model:
    """Return a model turned by a matrix given row by row, and centred."""
    x, y, z = (model.corners[..., axis] for axis in range(3))
    rows = [rotation[start : start + 3] for start in (0, 3, 6)]
    corners = np.stack([a * x + b * y + c * z for a, b, c in rows], axis=-1)
    return replace(model, corners=drawing.centred(corners))


def drawn(model: Model, view: View, side: int) -> Floats:
    """Return the image (side, side, 3) of a model, not yet rounded."""
    fine = side * SHARPNESS
    there = drawing.turned(model.corners, view.sideways, view.above)
    seen = drawing.outline(there, view.length * fine, (0.5 + view.shift) * fine)
    samples = drawing.covered(seen, fine)
    nearness = samples.of(seen.nearness)
    colours, solid = painted(model, samples, seen.nearness)
    kept = np.flatnonzero(solid)
    front = kept[drawing.nearest(samples.chosen(kept), nearness[kept])]
    brightness = drawing.lit(there, view.light, DARK)[samples.triangle[front]]
    canvas = np.tile(np.clip(view.ground, 0, 255), (fine * fine, 1))
    canvas[samples.place[front]] = colours[front] * brightness[:, None] * view.tint
    return drawing.averaged(canvas.reshape(fine, fine, 3), SHARPNESS)


def painted(model: Model, samples: Samples, nearness: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the colour (K, 3) of each sample and whether it is none of a picture's holes (K,).

    A picture is looked up where the sample lies on the triangle in space, not in the image: what
    is nearer is drawn larger.

    Args:
        model: whose triangles.
        samples: K of them.
        nearness: (T, 3) of the triangles' corners.
    """
    weights = samples.weights * nearness[samples.triangle]
    weights = weights / (weights[:, 0] + weights[:, 1] + weights[:, 2])[:, None]
    spread = replace(samples, weights=weights)
    across, up = (spread.of(model.places[..., axis]) for axis in (0, 1))
    colours, solid = np.zeros((len(across), 3)), np.ones(len(across), bool)
    material = model.material[samples.triangle]
    for number, each in enumerate(model.materials):
        at = material == number
        if each.picture is None:
            colours[at] = each.colour
            continue
        height, width = each.picture.shape[:2]
        column = np.floor((across[at] % 1.0) * width).astype(np.int64) % width
        row = np.floor((-up[at] % 1.0) * height).astype(np.int64) % height
        found = each.picture[row, column]
        colours[at] = found[:, :3]
        solid[at] = found[:, 3] >= HOLE
    return colours, solid


def filled(picture: NDArray[np.uint8]) -> float:
    """Return the share of an image's pixels that differ from its upper left one."""
    return float((picture != picture[0, 0]).any(-1).mean())


def read_all(folder: Path, entries: dict[str, Entry], names: list[str]) -> Iterator[Model]:
    """Yield the models called ``names``, upright and centred, one at a time: they are large."""
    archives = {each: zipfile.ZipFile(folder / f"{each}.sh3f") for each in catalogue.LIBRARIES}
    for name in names:
        entry = entries[name]
        yield upright(models.read(archives[entry.library], entry.path), entry.rotation)
    for archive in archives.values():
        archive.close()


def contents(folder: Path) -> tuple[Contents, list[Entry]]:
    """Return what goes into the data file, and the catalogue's entries of the classes."""
    entries = catalogue.entries(folder)
    order = by_hash(entries, SALT)
    kept: list[Entry] = []
    looks: list[Floats] = []
    pictures: list[NDArray[np.uint8]] = []
    alike, faint = [], []
    for name, model in zip(order, read_all(folder, entries, order), strict=True):
        look = np.concatenate([drawn(model, view, LOOK_SIDE).ravel() for view in fixed_views()])
        if min((float(np.abs(look - o).mean()) for o in looks), default=255.0) < ALIKE:
            alike.append(name)
            continue
        made = [drawing.shades(drawn(model, view, SIDE), STEP) for view in views(name)]
        if min(filled(picture) for picture in made) < FAINT:
            faint.append(name)
            continue
        looks.append(look)
        kept.append(entries[name])
        pictures += made
    for why, names in (("nearly alike", alike), ("faint", faint)):
        print(f"{len(names)} of {len(order)} left out as {why}: {' '.join(names)}", flush=True)
    held = Contents(
        pixels=np.stack(pictures),
        labels=[label for label in range(len(kept)) for _ in range(VIEWS)],
        class_names=[entry.name for entry in kept],
        styles=["views"],
        style=[0] * len(pictures),
        about={"salt": SALT, "packages": {"sweethome3d-furniture": "1.8-1"}},
    )
    return held, kept


def main(arguments: list[str] | None = None) -> None:
    """Read the catalogues, write ``products.zip``, ``SHA256`` and ``LICENSES.md``."""
    parser = argparse.ArgumentParser(description="Build the products retrieval dataset.")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--catalogues", type=Path, required=True, help="folder of .sh3f files")
    parser.add_argument("--sheet", type=Path, help="also write a picture of some classes")
    options = parser.parse_args(arguments)
    made, kept = contents(options.catalogues)
    print(write("products", made, options.out))
    (options.out / "LICENSES.md").write_text(credits.page(kept), encoding="utf-8")
    if options.sheet:
        contact_sheet(made.pixels[: 8 * VIEWS], VIEWS).save(options.sheet, optimize=True)


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"build: {error}")
