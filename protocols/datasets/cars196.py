"""Cars196 (Stanford Cars): 16,185 photographs of 196 car models; prepare it first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protocols.dataset import Dataset
from protocols.datasets._official import (
    Entry,
    Files,
    Listed,
    Official,
    Published,
    entries,
    some,
    together,
)
from protocols.errors import DataError
from protocols.manifest import dataset_from_manifest, digest_from_manifest

NAMES = Path(__file__).with_name("cars196_classes.txt")  # in the publisher's order
ONE, TRAIN, META = "cars_annos.mat", "cars_train_annos.mat", "cars_meta.mat"
TEST = "cars_test_annos_withlabels.mat"
_IN_FOLDERS = re.compile(r"(?:.*/)?(train|test)/([^/]+)/[^/]+\.(?:jpe?g|png)", re.IGNORECASE)


def layout(files: Files) -> list[Entry]:
    """Return the images of the first layout that is complete; class ids as published.

    Known: ``cars_annos.mat`` with ``car_ims/``; the devkit's lists with ``cars_train/`` and
    ``cars_test/``; the re-upload in class folders below ``train/`` and ``test/``.

    Raises:
        DataError: none is; the message says what each lacks.
    """
    lacks = []
    for read in (_one_list, _devkit, _class_folders):
        try:
            return entries(files, list(read(files)))
        except DataError as error:
            lacks.append(str(error))
    raise DataError("; ".join(lacks))


def digest(root: Path | None = None) -> str:
    """Return what identifies the prepared dataset, without reading its images."""
    return digest_from_manifest("cars196", root)


def load(root: Path | None = None) -> Dataset:
    """Return the dataset prepared below ``root``; parts are the publisher's."""
    return dataset_from_manifest("cars196", root)


def _one_list(files: Files) -> Iterator[Listed]:
    content = _mat(files, ONE)
    for row in content["annotations"]:
        class_id, part = int(row["class"]), "test" if row["test"] else "train"
        name = str(content["class_names"][class_id - 1])
        yield Listed(str(row["relative_im_path"]), class_id, name, part)


def _devkit(files: Files) -> Iterator[Listed]:
    names = _mat(files, META)["class_names"]
    for part, name in (("train", TRAIN), ("test", TEST)):
        for row in _mat(files, name)["annotations"]:
            path, class_id = f"cars_{part}/{row['fname']}", int(row["class"])
            yield Listed(path, class_id, str(names[class_id - 1]), part)


def _class_folders(files: Files) -> Iterator[Listed]:
    names = NAMES.read_text("utf-8").splitlines()
    number = {_plain(name): class_id for class_id, name in enumerate(names)}
    met = [match for key in files if (match := _IN_FOLDERS.fullmatch(key))]
    strange = sorted({match[2] for match in met} - {m[2] for m in met if _plain(m[2]) in number})
    if not met or strange:
        why = f"of other names: {some(strange)}" if met else "in train/ and test/"
        raise DataError(f"{'class' if met else 'no class'} folders {why}")
    for match in met:
        class_id = number[_plain(match[2])]
        yield Listed(match[0], class_id, names[class_id], match[1].lower())


def _plain(name: str) -> str:
    """Return a class name without what file systems and re-uploads change: C/V, C-V, CV."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _mat(files: Files, name: str) -> dict[str, Any]:
    from scipy.io import loadmat  # here: training needs no scipy

    folder = together(files, name)
    if folder is None:
        raise DataError(f"no {name}")
    try:
        content: dict[str, Any] = loadmat(files[folder + name], simplify_cells=True)
    # The reader raises whatever a damaged file makes it stumble over.
    except Exception as error:
        raise DataError(f"{name} cannot be read ({error})") from error
    return content


OFFICIAL = Official(
    layout=layout,
    published=Published(
        16_185, 196, first_half=8_054, parts={"train": (8_144, 196), "test": (8_041, 196)}
    ),
    archives=("car_ims.tgz", "cars_t*.tgz", "car*devkit.tgz", "stanford*car*.zip"),
    lists=(ONE, TRAIN, TEST, META),
    by_hand="Stanford Cars in any known form: on Kaggle "
    "jutrera/stanford-car-dataset-by-classes-folder or cyizhuo/stanford-cars-by-classes-folder; "
    "or, in one folder, car_ims.tgz and cars_annos.mat; "
    f"or cars_train.tgz, cars_test.tgz, car_devkit.tgz and {TEST} (the publisher's links on "
    "https://ai.stanford.edu/~jkrause/cars/car_dataset.html are dead)",
)
