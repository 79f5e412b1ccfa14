"""Models in the Wavefront format: triangles, materials and their pictures."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protocols.datasets._rasteriser import Floats, Whole

TEXTURE = 256  # px: larger pictures on a model are reduced to this before they are used
GLASS = 0.3  # materials that let more light through than this leaves are not drawn
GREY = (0.8, 0.8, 0.8)


@dataclass(frozen=True)
class Material:
    """What a triangle is made of.

    Attributes:
        colour: (3,) 0 to 255, where there is no picture.
        opacity: 0 to 1.
        picture: (H, W, 4) RGBA, or None.
    """

    colour: Floats
    opacity: float
    picture: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Model:
    """Triangles with materials.

    Attributes:
        corners: (T, 3, 3).
        places: (T, 3, 2) where the corners lie in the picture, u to the right and v up.
        material: (T,) which of ``materials``.
        materials: those of the model.
    """

    corners: Floats
    places: Floats
    material: Whole
    materials: list[Material]


def read(archive: zipfile.ZipFile, path: str) -> Model:
    """Return the model at ``path`` in a catalogue, glass left out unless all is glass.

    Texture coordinates that a corner does not have are 0.
    """
    points: list[tuple[float, ...]] = []
    places: list[tuple[float, ...]] = []
    corners: list[list[int]] = []
    spots: list[list[int]] = []
    material: list[int] = []
    names: dict[str, int] = {}
    known: dict[str, Material] = {}
    current = ""
    for line in archive.read(path).decode("latin1").splitlines():
        match line.split():
            case ["v", x, y, z, *_]:
                points.append((float(x), float(y), float(z)))
            case ["vt", u, v, *_]:
                places.append((float(u), float(v)))
            case ["mtllib", *words]:
                known |= _materials(archive, PurePosixPath(path).parent / " ".join(words))
            case ["usemtl", *words]:
                current = " ".join(words)
            case ["f", *ends]:
                ids = [_corner(end, len(points), len(places)) for end in ends]
                for k in range(1, len(ids) - 1):
                    three = (ids[0], ids[k], ids[k + 1])
                    corners.append([point for point, _ in three])
                    spots.append([place for _, place in three])
                    material.append(names.setdefault(current, len(names)))
    plain = Material(np.array(GREY) * 255, 1.0, None)
    materials = [known.get(name, plain) for name in names]
    where = np.array([*places, (0.0, 0.0)])  # number -1: no coordinates
    whole = Model(
        np.array(points)[np.array(corners)],
        where[np.array(spots)],
        np.array(material, dtype=np.int64),
        materials,
    )
    return _visible(whole)


def _corner(end: str, points: int, places: int) -> tuple[int, int]:
    """Return the 0-based numbers of point and place of a corner such as ``3/1/2`` or ``-1``."""
    point, _, rest = end.partition("/")
    place = rest.partition("/")[0]
    first = int(point) - 1 if int(point) > 0 else points + int(point)
    if not place:
        return first, -1
    return first, int(place) - 1 if int(place) > 0 else places + int(place)


def _visible(model: Model) -> Model:
    """Return the triangles that are finite and not of glass."""
    finite = np.isfinite(model.corners).all((1, 2))
    solid = np.array([material.opacity for material in model.materials])[model.material] >= GLASS
    kept = finite & solid if (finite & solid).any() else finite
    return Model(model.corners[kept], model.places[kept], model.material[kept], model.materials)


def _materials(archive: zipfile.ZipFile, path: PurePosixPath) -> dict[str, Material]:
    """Return name -> material of a material file; none where the file is not there."""
    names = {name.lower(): name for name in archive.namelist()}
    if str(path).lower() not in names:
        return {}
    said: dict[str, dict[str, list[str]]] = {}
    now: dict[str, list[str]] = {}
    for line in archive.read(names[str(path).lower()]).decode("latin1").splitlines():
        match line.split():
            case ["newmtl", *words]:
                now = said.setdefault(" ".join(words), {})
            case [key, *words]:
                now[key] = words
    found = {}
    for name, about in said.items():
        colour = np.array([float(each) for each in about.get("Kd", GREY)[:3]]) * 255
        picture = None
        if "map_Kd" in about:
            file = " ".join(about["map_Kd"]).split("/")[-1]
            inside = names.get(str(path.parent / file).lower())
            picture = _picture(archive.read(inside)) if inside else None
        found[name] = Material(colour, float(about.get("d", ["1"])[-1]), picture)
    return found


def _picture(content: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    if max(image.size) > TEXTURE:
        width, height = (max(1, round(s * TEXTURE / max(image.size))) for s in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image)
