"""Crops on a device: the same weights and, but for rounding, the same images as on the host."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import resident
from protocols.images import (
    by_products,
    crop,
    eval_boxes,
    largest_box,
    resize_weights,
    training_boxes,
)
from protocols.protocol import ImagePipeline

SMALL = ImagePipeline(resize_px=64, crop_px=64, area=(0.5, 1.0), flip=0.5)
TALL = ImagePipeline(resize_px=64, crop_px=(64, 32), area=(0.5, 1.0), flip=0.5)
PHOTOS = ImagePipeline(resize_px=256, crop_px=227, area=(0.16, 1.0), aspect=(0.75, 1.33))


def images_of(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]


def padded(images, index):
    height, width = (max(images[i].shape[axis] for i in index) for axis in (0, 1))
    canvas = np.zeros((len(index), height, width, 3), np.uint8)
    for row, i in zip(canvas, index, strict=True):
        row[: images[i].shape[0], : images[i].shape[1]] = images[i]
    return torch.from_numpy(canvas)


def photo_sizes(count, rng):
    long = np.stack([np.full(count, 256), rng.integers(256, 420, count)], axis=1)
    return np.where(rng.random((count, 1)) < 0.3, long[:, ::-1], long).astype(np.int64)


def on_device(images, sizes, index, boxes, flips, pipeline):
    """Return the crops that a device makes, on the CPU."""
    store = resident.upload(images.__getitem__, sizes, torch.device("cpu"))
    box = torch.from_numpy(boxes)
    sides = largest_box(pipeline, sizes)
    blocks = store.boxes(torch.from_numpy(index), box, *sides)
    down, across = (
        resident.Resize.on(torch.device("cpu"), side, out)
        for side, out in zip(sides, pipeline.crop_hw, strict=True)
    )
    return resident.resized(blocks, box[:, 2:], torch.from_numpy(flips), down, across)


@pytest.mark.parametrize(
    ("pipeline", "count", "allowed"),
    [(SMALL, 64, 0.0), (TALL, 64, 0.0), (PHOTOS, 24, 1e-5)],
    ids=["64", "64x32", "227"],
)
def test_crops_equal_those_of_the_host_by_products(pipeline, count, allowed):
    rng = np.random.default_rng(1)
    sizes = photo_sizes(count, rng) if pipeline is PHOTOS else np.full((count, 2), 64)
    images = images_of(sizes)
    index = rng.integers(0, count, 16)
    boxes, flips = training_boxes(pipeline, sizes[index], rng)
    wanted = by_products(padded(images, index), boxes, pipeline.crop_px)
    wanted[flips] = wanted[flips].flip(3)
    apart = (on_device(images, sizes, index, boxes, flips, pipeline) - wanted).abs()
    assert apart.max() <= 1
    assert (apart > 0).double().mean() <= allowed


def test_crops_are_the_same_grey_levels_where_a_network_runs_in_bfloat16():
    """The passes that renew averaged statistics make theirs while autocast is on."""
    rng = np.random.default_rng(3)
    sizes = photo_sizes(8, rng)
    images, index = images_of(sizes), np.arange(8)
    asked = (images, sizes, index, *training_boxes(PHOTOS, sizes, rng), PHOTOS)
    wanted = on_device(*asked)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = on_device(*asked)
    assert got.dtype == torch.float32
    assert torch.equal(got, wanted)


def test_crops_are_a_grey_level_off_the_kernels_in_one_value_of_fifty_at_most():
    rng = np.random.default_rng(2)
    sizes = photo_sizes(12, rng)
    images, index = images_of(sizes), np.arange(12)
    boxes, flips = training_boxes(PHOTOS, sizes, rng)
    kernel = crop(padded(images, index), boxes, PHOTOS.crop_px, flips)
    apart = (on_device(images, sizes, index, boxes, flips, PHOTOS) - kernel).abs()
    assert apart.max() <= 1
    assert (apart > 0).double().mean() <= 0.02


@settings(max_examples=80)
@given(st.integers(2, 400), st.integers(1, 260), st.integers(0, 2**31))
def test_weights_are_the_hosts_to_the_last_bit_of_float32(size, out, seed):
    rng = np.random.default_rng(seed)
    length = rng.integers(1, size + 1, 4)
    wanted = resize_weights(np.zeros(4, np.int64), length, size, out)
    found = resident.triangles(torch.from_numpy(length), size, out).numpy()
    assert np.abs(found - wanted).max() <= 6e-8
    assert (found != wanted).mean() <= 1e-3


@pytest.mark.parametrize(("size", "out"), [(1, 5), (17, 17), (64, 32), (90, 227)])
def test_weights_in_a_table_are_those_worked_out(size, out, monkeypatch):
    length = torch.arange(1, size + 1)
    held = resident.Resize.on(torch.device("cpu"), size, out)
    assert held.table.shape == (size + 1, out, size)
    assert held.table.isfinite().all()
    monkeypatch.setattr(resident, "TABLE_BYTES", held.table.nbytes - 1)
    worked_out = resident.Resize.on(torch.device("cpu"), size, out)
    assert worked_out.table is None
    assert torch.equal(held.of(length), worked_out.of(length))


def test_images_on_a_device_are_those_that_were_given(monkeypatch):
    monkeypatch.setattr(resident, "PIECE_BYTES", 500)  # several pieces, the last one short
    sizes = np.array([(5, 9), (12, 4), (3, 3), (20, 11), (1, 1)])
    images = images_of(sizes)
    store = resident.upload(lambda i: images[i].reshape(-1), sizes, torch.device("cpu"))
    whole = torch.from_numpy(np.concatenate([np.zeros_like(sizes), sizes], axis=1))
    blocks = store.boxes(torch.arange(5), whole, 20, 11)
    for block, image in zip(blocks.numpy(), images, strict=True):
        assert np.array_equal(block[: image.shape[0], : image.shape[1]], image)


def test_an_eval_crop_of_its_own_size_is_a_copy():
    rng = np.random.default_rng(3)
    sizes = photo_sizes(6, rng)
    images, index = images_of(sizes), np.arange(6)
    boxes = eval_boxes(PHOTOS, sizes)
    store = resident.upload(images.__getitem__, sizes, torch.device("cpu"))
    side = PHOTOS.crop_px
    copied = store.boxes(torch.from_numpy(index), torch.from_numpy(boxes), side, side)
    pixels = padded(images, index)
    for make in (crop, by_products):
        assert torch.equal(copied.permute(0, 3, 1, 2).float(), make(pixels, boxes, side))


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=8),
    st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)),
    st.floats(1.0, 3.0),
    st.integers(0, 2**31),
)
def test_no_box_is_larger_than_the_largest(sizes, area, aspect, seed):
    pipeline = ImagePipeline(
        resize_px=64,
        crop_px=64,
        area=(min(area), max(area)),
        aspect=(1 / aspect, aspect),
    )
    sizes = np.array(sizes)
    height, width = largest_box(pipeline, sizes)
    assert height <= sizes[:, 0].max()
    assert width <= sizes[:, 1].max()
    for draw in range(20):
        boxes, _ = training_boxes(pipeline, sizes, np.random.default_rng(seed + draw))
        assert boxes[:, 2].max() <= height
        assert boxes[:, 3].max() <= width
