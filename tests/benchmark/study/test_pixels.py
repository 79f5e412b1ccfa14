"""Decoded pixels come back as they went in, whatever their sizes."""

import hashlib
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from benchmark.study.pixels import ReadFile, open_store, resize
from protocols.dataset import ArrayImages
from protocols.errors import DataError, StoreError
from protocols.manifest import ManifestImages, Row


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


class Watched(Mixed):
    """Images that note how many are read at once, and how far ahead of the one that is slowest."""

    def __init__(self, sizes):
        super().__init__(sizes)
        self.lock, self.now, self.most, self.begun, self.ended = threading.Lock(), 0, 0, 0, 0
        self.ahead = 0

    def read(self, index):
        with self.lock:
            self.now, self.begun = self.now + 1, self.begun + 1
            self.most = max(self.most, self.now)
        time.sleep(0.02 if index % 3 else 0.06)
        with self.lock:
            self.now -= 1
            if index == 0:
                self.ahead = self.begun
        return super().read(index)


class Concurrent(Watched):
    concurrent = True


@pytest.mark.parametrize("kind", [Watched, Concurrent])
def test_images_that_may_be_are_decoded_side_by_side_and_lie_in_their_order(
    kind, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    images = kind([(8, 8 + number) for number in range(20)])
    store = open_store("a", 8, tmp_path, lambda: images)
    for number in range(20):
        assert np.array_equal(store.image(number), images.images[number])
    assert images.most == (3 if kind is Concurrent else 1)
    assert images.ahead <= 6, "no more are held in memory than twice the threads"


def test_the_first_image_that_cannot_be_read_is_named_whichever_fails_first(tmp_path, monkeypatch):
    class Broken(Concurrent):
        def read(self, index):
            if index == 4:
                time.sleep(0.2)
            if index >= 4:
                raise DataError(f"image {index} cannot be read")
            return super().read(index)

    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    with pytest.raises(DataError, match="image 4 "):
        open_store("a", 8, tmp_path, lambda: Broken([(8, 8)] * 40))
    assert not list(tmp_path.iterdir())


def test_images_in_files_are_decoded_side_by_side(tmp_path, monkeypatch):
    rows = []
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        content = (tmp_path / f"{number}.png").read_bytes()
        rows.append(Row(f"{number}.png", 0, "a", "", hashlib.sha256(content).hexdigest()))
    used, real = set(), ManifestImages.read

    def read(self, index):
        used.add(threading.get_ident())
        time.sleep(0.01)
        return real(self, index)

    monkeypatch.setattr(ManifestImages, "read", read)
    images = ManifestImages(tmp_path, rows)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    store = open_store("a", 16, tmp_path / "cache", lambda: images)
    for number in range(12):
        assert np.array_equal(store.image(number), resize(real(images, number), 16))
    assert len(used) == 2
