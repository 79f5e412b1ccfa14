"""Decoded pixels come back as they went in, whatever their sizes."""

import os

import numpy as np
import pytest
from PIL import Image

from benchmark.study.pixels import ReadFile, open_store, resize
from protocols.dataset import ArrayImages
from protocols.errors import StoreError


class Mixed:
    """Images of several sizes."""

    def __init__(self, sizes, seed=0):
        rng = np.random.default_rng(seed)
        self.images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in sizes]

    def __len__(self):
        return len(self.images)

    def read(self, index):
        return self.images[index]


def test_one_size_is_returned_exactly(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    store = open_store("a", 8, tmp_path, lambda: ArrayImages(pixels))
    batch, sizes = store.batch(np.array([4, 0, 4]))
    assert np.array_equal(batch, pixels[[4, 0, 4]])
    assert (sizes == 8).all()


def test_mixed_sizes_are_padded_and_measured(tmp_path):
    images = Mixed([(8, 12), (10, 8), (8, 8)])
    store = open_store("a", 8, tmp_path, lambda: images)
    batch, sizes = store.batch(np.arange(3))
    assert sizes.tolist() == [[8, 12], [10, 8], [8, 8]]
    assert batch.shape == (3, 10, 12, 3)
    for row, (h, w) in enumerate(sizes):
        assert np.array_equal(batch[row, :h, :w], images.read(row))
        assert batch[row, h:].sum() == batch[row, :, w:].sum() == 0


@pytest.fixture
def asked(monkeypatch):
    """Return what is asked for ahead, as it comes: (start, length)."""
    found, real = [], ReadFile.ask_for

    def ask_for(self, start, length):
        real(self, start, length)
        found.append((start, length))

    monkeypatch.setattr(ReadFile, "ask_for", ask_for)
    return found


def test_large_images_are_asked_for_before_they_are_read(tmp_path, asked):
    images = Mixed([(200, 230), (200, 250), (20, 20), (250, 200)])
    store = open_store("a", 200, tmp_path, lambda: images)
    batch, sizes = store.batch(np.array([3, 2, 1]))
    assert np.array_equal(batch[0, : sizes[0, 0], : sizes[0, 1]], images.read(3))
    lengths = (store.sizes.prod(axis=1) * 3).tolist()
    assert asked == [(store.starts[i], lengths[i]) for i in (3, 1)]  # 2 is 120 kB


def test_small_images_are_not_asked_for(tmp_path, asked):
    store = open_store("a", 8, tmp_path, lambda: Mixed([(8, 8), (8, 9)]))
    store.batch(np.array([0, 1]))
    assert asked == []


def test_only_what_is_open_can_be_read(tmp_path):
    images = Mixed([(8, 12), (8, 8), (10, 8), (8, 9)])
    store = open_store("a", 8, tmp_path, lambda: images, only=np.array([0, 2]))
    assert np.array_equal(store.image(2), images.read(2))
    assert store.batch(np.array([2, 0]))[1].tolist() == [[10, 8], [8, 12]]
    for sealed in ([1], [0, 3], [-1], [2, -3]):
        with pytest.raises(StoreError, match="sealed"):
            store.batch(np.array(sealed))
    with pytest.raises(StoreError, match="image 3 is sealed"):
        store.image(3)
    assert store.sizes[[1, 3]].tolist() == [[0, 0], [0, 0]]
    assert store.starts[[1, 3]].tolist() == [-1, -1]


def test_a_store_that_is_cut_while_it_is_open_is_said(tmp_path):
    store = open_store("a", 8, tmp_path, lambda: Mixed([(8, 8), (8, 8)]))
    os.truncate(tmp_path / "a-8px.u8", 200)
    assert store.image(0).shape == (8, 8, 3)
    with pytest.raises(StoreError, match="ends too early"):
        store.image(1)


def test_the_file_is_closed_with_its_store(tmp_path):
    store = open_store("a", 8, tmp_path, lambda: Mixed([(8, 8)]))
    number = store.file.number
    os.fstat(number)
    del store
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_images_are_decoded_once(tmp_path):
    calls = []

    def images():
        calls.append(1)
        return Mixed([(8, 8)])

    first = open_store("a", 8, tmp_path, images).batch(np.array([0]))[0]
    second = open_store("a", 8, tmp_path, images).batch(np.array([0]))[0]
    assert np.array_equal(first, second)
    assert len(calls) == 1


def test_an_image_that_cannot_be_read_leaves_no_store(tmp_path):
    class Broken(Mixed):
        def read(self, index):
            raise OSError(5, "broken pipe")

    with pytest.raises(StoreError):
        open_store("a", 8, tmp_path, lambda: Broken([(8, 8)]))
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".npy")] == []


@pytest.mark.parametrize(("size", "expected"), [((40, 60), (20, 30)), ((60, 41), (29, 20))])
def test_the_shorter_side_is_resized_as_pillow_does(size, expected):
    image = Mixed([size]).read(0)
    small = resize(image, 20)
    assert small.shape[:2] == expected
    want = Image.fromarray(image).resize(expected[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(small, np.asarray(want))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (301, 457), (64, 64)])
def test_sizes_agree_with_torchvision(size):
    import torch
    from torchvision.transforms.v2.functional import resize as reference

    want = reference(torch.zeros(3, *size), [256], antialias=True).shape[1:]
    assert resize(np.zeros((*size, 3), np.uint8), 256).shape[:2] == tuple(want)


@pytest.mark.parametrize("which", ["a-8px.u8", "a-8px.sizes.npy"])
@pytest.mark.parametrize("left", [0, 30])
def test_a_store_that_was_cut_is_decoded_anew(tmp_path, which, left):
    images = Mixed([(8, 8), (9, 12)])
    whole = open_store("a", 8, tmp_path, lambda: images).batch(np.array([0, 1]))
    path = tmp_path / which
    path.write_bytes(path.read_bytes()[:left])
    again = open_store("a", 8, tmp_path, lambda: images).batch(np.array([0, 1]))
    for before, after in zip(whole, again, strict=True):
        assert np.array_equal(before, after)
