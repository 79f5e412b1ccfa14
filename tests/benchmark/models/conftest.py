"""A finished study's models, exported once in each form."""

import pytest
import torch
from PIL import Image

from benchmark.models.address import find
from benchmark.models.export import export
from benchmark.study.folder import load_study
from protocols.discovery import Registry, load


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def exported(toy_study, tmp_path_factory):
    """The file of the toy study's ``ms`` in a form, written at the first call for it."""
    folder, study = tmp_path_factory.mktemp("models"), load_study(toy_study)

    def make(form, run="ms"):
        path = folder / f"{run.replace('/', '-')}{form}"
        if not path.exists():
            export(study, find(study, run), path, Registry(), "a command")
        return path

    return make


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 24 classes of made images as files, and the images as arrays."""
    base, toy = tmp_path_factory.mktemp("photos"), load("dataset", "toy").load(None)
    test = [n for n, label in enumerate(toy.labels.tolist()) if label >= 24]
    for n in test:
        folder = base / f"class {toy.labels[n]}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(toy.images.read(n)).save(folder / f"{n:04d}.png")
    return base
