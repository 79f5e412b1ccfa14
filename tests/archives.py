"""Archives in the official layouts, drawn from the emoji set: stand-ins for data nobody may ship.

    python tests/archives.py sop FOLDER

writes one with as many images and classes as published, so that the commands for the real
archive can be tried and measured word for word. Drawings are varied in hue and place, so no two
files are equal; what a method scores on them says nothing about the real photographs.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops
from scipy.io import savemat

from protocols import discovery
from protocols.dataset import Dataset
from protocols.datasets import cub200, emoji
from protocols.datasets._official import Published


class Picture(NamedTuple):
    """One image to draw: class (0-based), number within it, official part."""

    label: int
    number: int
    part: str


def spread(total: int, parts: int) -> list[int]:
    """Return ``parts`` whole numbers, as equal as they can be, that add up to ``total``."""
    return [total // parts + (k < total % parts) for k in range(parts)]


def pictures(published: Published) -> Iterator[Picture]:
    """Yield pictures, class by class, in the published numbers."""
    everywhere = all(n == published.classes for _, n in published.parts.values())
    rows = _halved(published) if everywhere else _apart(published)
    for label, counts in enumerate(rows):
        numbers = iter(range(sum(counts.values())))
        for part, count in counts.items():
            yield from (Picture(label, next(numbers), part) for _ in range(count))


def _halved(published: Published) -> list[dict[str, int]]:
    """Return images of each part by class, where every class has train and test images."""
    half, first = published.classes // 2, published.first_half or 0
    train = spread(published.parts["train"][0], published.classes)
    test = spread(first - sum(train[:half]), half) + spread(
        published.images - first - sum(train[half:]), published.classes - half
    )
    return [{"train": a, "test": b} for a, b in zip(train, test, strict=True)]


def _apart(published: Published) -> list[dict[str, int]]:
    """Return images of each part by class, where training classes have no other images."""
    parts = {part: spread(*counts) for part, counts in published.parts.items()}
    train = [{"train": count} for count in parts.pop("train")]
    others = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    return train + others


@cache
def _drawings() -> tuple[list[np.ndarray], Dataset]:
    dataset = emoji.load()
    return [np.flatnonzero(dataset.labels == c) for c in range(len(dataset.class_names))], dataset


def jpeg(picture: Picture) -> bytes:
    """Return the picture as a JPEG of 72 x 64 px."""
    members, dataset = _drawings()
    mine = members[picture.label % len(members)]
    copy, which = divmod(picture.number, len(mine))
    image = Image.fromarray(dataset.images.read(int(mine[which])))
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point(lambda h: (h + 47 * (picture.label // len(members))) % 256)
    image = Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    image = ImageChops.offset(image, copy % 8, copy // 8)
    canvas = Image.new("RGB", (72, 64), (255, 255, 255 - copy % 32))
    canvas.paste(image, (4, 0))
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=85)
    return out.getvalue()


def cub(folder: Path, published: Published) -> Path:
    """Write CUB_200_2011.tgz."""
    lists = {name: io.StringIO() for name in cub200.LISTS}
    path = folder / "CUB_200_2011.tgz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(f"CUB_200_2011/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        for label in range(published.classes):
            lists["classes.txt"].write(f"{label + 1} {label + 1:03}.Bird_{label}\n")
        for image, picture in enumerate(pictures(published), start=1):
            name = f"{picture.label + 1:03}.Bird_{picture.label}/Bird_{image:05}.jpg"
            lists["images.txt"].write(f"{image} {name}\n")
            lists["image_class_labels.txt"].write(f"{image} {picture.label + 1}\n")
            lists["train_test_split.txt"].write(f"{image} {int(picture.part == 'train')}\n")
            add(f"images/{name}", jpeg(picture))
        for name, text in lists.items():
            add(name, text.getvalue().encode())
    return path


def cars(folder: Path, published: Published) -> Path:
    """Write car_ims.tgz and cars_annos.mat; return their folder."""
    rows = list(pictures(published))
    boxes = [f"bbox_{axis}{end}" for axis in "xy" for end in (1, 2)]
    dtype = [(key, object) for key in ("relative_im_path", *boxes, "class", "test")]
    annotations = np.zeros((1, len(rows)), dtype)
    with tarfile.open(folder / "car_ims.tgz", "w:gz", compresslevel=1) as archive:
        for image, picture in enumerate(rows):
            name, content = f"car_ims/{image + 1:06}.jpg", jpeg(picture)
            corner = (1, 1, 72, 64)
            annotations[0, image] = (name, *corner, picture.label + 1, picture.part == "test")
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    names = np.array([f"Car {label}" for label in range(published.classes)], object)
    savemat(folder / "cars_annos.mat", {"annotations": annotations, "class_names": [names]})
    return folder


def sop(folder: Path, published: Published) -> Path:
    """Write Stanford_Online_Products.zip."""
    head = "image_id class_id super_class_id path\n"
    lists = {part: io.StringIO(head) for part in ("train", "test")}
    for text in lists.values():
        text.seek(0, io.SEEK_END)
    path = folder / "Stanford_Online_Products.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for image, picture in enumerate(pictures(published), start=1):
            name = f"bicycle_final/{picture.label + 1}_{picture.number}.JPG"
            lists[picture.part].write(f"{image} {picture.label + 1} 1 {name}\n")
            archive.writestr(f"Stanford_Online_Products/{name}", jpeg(picture))
        for part, text in lists.items():
            archive.writestr(f"Stanford_Online_Products/Ebay_{part}.txt", text.getvalue())
    return path


def inshop(folder: Path, published: Published) -> Path:
    """Write the folder of In-Shop: the list in Eval, the images in Img/img.zip."""
    lines = []
    (folder / "Img").mkdir(parents=True)
    (folder / "Eval").mkdir()
    with zipfile.ZipFile(folder / "Img" / "img.zip", "w") as archive:
        for picture in pictures(published):
            item = f"id_{picture.label + 1:08}"
            name = f"img/WOMEN/Dresses/{item}/{picture.number:02}_1_front.jpg"
            lines.append(f"{name}     {item} {picture.part}")
            archive.writestr(name, jpeg(picture))
    text = "\n".join([str(len(lines)), "image_name item_id evaluation_status", *lines])
    (folder / "Eval" / "list_eval_partition.txt").write_text(text + "\n", encoding="utf-8")
    return folder


BUILDERS = {"cub200": cub, "cars196": cars, "sop": sop, "inshop": inshop}


def main() -> None:
    """Write the archive of the dataset named, with the published counts."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    official = discovery.load("dataset", name).OFFICIAL
    print(BUILDERS[name](folder, official.published))


if __name__ == "__main__":
    main()
