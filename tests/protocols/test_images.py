"""Crops are torchvision's on the same boxes; boxes follow the rule of its random crop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from protocols.images import by_products, crop, eval_boxes, resize_weights, training_boxes
from protocols.protocol import ImagePipeline

PIPELINE = ImagePipeline(resize_px=256, crop_px=227)


def picture(height, width, seed=0):
    """Return (H, W, 3) uint8 with smooth structure, sharp edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (3 + c) + c) * np.cos(y / (5 - c)) for c in range(3)]
    smooth = 127 + 90 * np.stack(waves, axis=2)
    smooth[height // 3 : height // 2, width // 4 :] = [255, 0, 128]
    return np.clip(smooth + rng.normal(0, 25, smooth.shape), 0, 255).astype(np.uint8)


def stored(*pictures, fill=0):
    """Return the pictures (B, H, W, 3) at the top left of a common canvas."""
    height, width = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    canvas = np.full((len(pictures), height, width, 3), fill, np.uint8)
    for row, p in zip(canvas, pictures, strict=True):
        row[: p.shape[0], : p.shape[1]] = p
    return torch.from_numpy(canvas)


def planes(image):
    return torch.from_numpy(image).permute(2, 0, 1)


def boxes_of(*rows):
    return np.array(rows, dtype=np.int64)


# top, left, height, width in a 61 x 83 picture, and the side of the result
CASES = [
    pytest.param((0, 0, 61, 83), 24, id="whole, down"),
    pytest.param((5, 7, 50, 40), 24, id="down"),
    pytest.param((5, 7, 20, 17), 24, id="up"),
    pytest.param((11, 3, 15, 60), 24, id="up and down"),
    pytest.param((9, 20, 24, 24), 24, id="same size"),
    pytest.param((60, 82, 1, 1), 8, id="one pixel"),
    pytest.param((0, 30, 61, 2), 16, id="thin"),
    pytest.param((2, 2, 47, 53), 1, id="to one pixel"),
]


def library(image, box, side, *, flip=False):
    """Return torchvision's crop of the bytes (3, side, side)."""
    found = tv.resized_crop(planes(image), *map(int, box), [side, side], antialias=True)
    return tv.horizontal_flip(found) if flip else found


@pytest.mark.parametrize(("box", "side"), CASES)
@pytest.mark.parametrize("flip", [False, True])
def test_crop_is_torchvisions_on_bytes(box, side, flip):
    image = picture(61, 83)
    got = crop(stored(image), boxes_of(box), side, np.array([flip]))
    assert got.shape == (1, 3, side, side)
    assert torch.equal(got[0], library(image, box, side, flip=flip).float())


def any_crop(height, width, seed):
    """Return an image, a box in it and the rng that drew them."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    h, w = rng.integers(1, height + 1), rng.integers(1, width + 1)
    return image, (rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w)


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 33), st.integers(0, 2**31))
def test_crop_is_torchvisions_for_any_box(height, width, side, seed):
    image, box = any_crop(height, width, seed)
    got = crop(stored(image), boxes_of(box), side)[0]
    assert torch.equal(got, library(image, box, side).float())


@settings(max_examples=40)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.booleans(), st.integers(0, 2**31))
def test_a_rectangle_is_torchvisions_on_the_kernel_and_two_levels_off_by_products(
    lengths, flip, seed
):
    height, width, *extent = lengths
    image, box = any_crop(height, width, seed)
    wanted = tv.resized_crop(planes(image), *map(int, box), extent, antialias=True)
    wanted = (tv.horizontal_flip(wanted) if flip else wanted).float()
    got = crop(stored(image), boxes_of(box), tuple(extent), np.array([flip]))
    assert torch.equal(got, wanted[None])
    products = by_products(stored(image), boxes_of(box), tuple(extent))[0]
    products = products.flip(2) if flip else products
    assert (products - wanted).abs().max() <= 2


@pytest.mark.parametrize(("box", "side"), CASES)
def test_crop_is_the_exact_resize_up_to_rounding(box, side):
    """Two roundings to whole grey levels lie between bytes and floats, and nothing else."""
    image = picture(61, 83)
    got = crop(stored(image), boxes_of(box), side)[0]
    floats = tv.resized_crop(planes(image).float(), *box, [side, side], antialias=True)
    pil = tv.resized_crop(Image.fromarray(image), *box, [side, side], antialias=True)
    for wanted in (floats, planes(np.asarray(pil).copy()).float()):
        assert (got - wanted).abs().max() <= 1.5
        assert (got - wanted).abs().mean() <= 0.5


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 230), st.integers(0, 2**31))
def test_products_are_within_two_grey_levels_for_any_box(height, width, side, seed):
    image, box = any_crop(height, width, seed)
    got = by_products(stored(image), boxes_of(box), side)[0]
    assert (got - library(image, box, side).float()).abs().max() <= 2


def test_products_are_a_grey_level_off_in_one_value_of_fifty_at_most():
    rng = np.random.default_rng(0)
    sizes = np.array([(256, 341), (256, 256), (300, 256), (256, 400)])
    pictures = [picture(*size, seed) for seed, size in enumerate(sizes)]
    boxes, _ = training_boxes(PIPELINE, sizes, rng)
    apart = (by_products(stored(*pictures), boxes, 227) - crop(stored(*pictures), boxes, 227)).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() <= 0.02


def test_batch_equals_its_images_one_by_one():
    pictures = [picture(40, 52, seed) for seed in range(4)]
    boxes = boxes_of((0, 0, 40, 52), (3, 4, 20, 20), (10, 0, 30, 9), (39, 51, 1, 1))
    flips = np.array([False, True, True, False])
    whole = crop(stored(*pictures), boxes, 16, flips)
    for i, image in enumerate(pictures):
        alone = crop(stored(image), boxes[i : i + 1], 16, flips[i : i + 1])
        assert torch.equal(whole[i : i + 1], alone)


def test_products_are_the_same_grey_levels_where_a_network_runs_in_bfloat16():
    """Evaluation makes its crops while autocast is on; bfloat16 has no odd levels above 128."""
    pictures = [picture(40, 52, seed) for seed in range(4)]
    boxes = boxes_of((0, 0, 40, 52), (3, 4, 20, 20), (10, 0, 30, 9), (5, 5, 16, 16))
    wanted = by_products(stored(*pictures), boxes, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = by_products(stored(*pictures), boxes, 16)
    assert got.dtype == torch.float32
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("fill", [0, 255])
def test_padding_of_smaller_images_is_never_seen(fill):
    small, large = picture(20, 30), picture(50, 45)
    boxes = boxes_of((0, 0, 20, 30), (0, 0, 50, 45))
    got = crop(stored(small, large, fill=fill), boxes, 24)
    assert torch.equal(got[0], crop(stored(small), boxes[:1], 24)[0])
    products = by_products(stored(small, large, fill=fill), boxes, 24)
    assert torch.equal(products[0], by_products(stored(small), boxes[:1], 24)[0])


def test_flip_mirrors_left_and_right_only_where_asked():
    image = picture(30, 30)
    boxes = boxes_of((2, 5, 20, 20), (2, 5, 20, 20))
    plain, flipped = crop(stored(image, image), boxes, 12, np.array([False, True]))
    assert torch.equal(flipped, plain.flip(2))
    assert not torch.allclose(flipped, plain)


@pytest.mark.parametrize("value", [0, 1, 128, 255])
@pytest.mark.parametrize("side", [3, 16, 50])
def test_constant_image_stays_constant_float_in_0_255(value, side):
    pixels = torch.full((1, 20, 20, 3), value, dtype=torch.uint8)
    for resized in (crop, by_products):
        got = resized(pixels, boxes_of((1, 2, 17, 15)), side)
        assert got.dtype == torch.float32
        assert torch.equal(got, torch.full_like(got, value))


@pytest.mark.parametrize("resized", [crop, by_products])
def test_result_is_whole_grey_levels_and_the_bytes_stay(resized):
    image = np.random.default_rng(0).choice([0, 255], (40, 40, 3)).astype(np.uint8)
    pixels = stored(image)
    kept = pixels.clone()
    got = resized(pixels, boxes_of((0, 0, 40, 40)), 23)
    assert got.dtype == torch.float32
    assert torch.equal(got, got.to(torch.uint8).float())
    assert torch.equal(pixels, kept)


@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 40))
def test_weights_are_means_over_the_interval(start, length, out):
    (weights,) = resize_weights(np.array([start]), np.array([length]), start + length + 5, out)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert (weights >= 0).all()
    assert not weights[:, :start].any()
    assert not weights[:, start + length :].any()


# Where to crop.

image_sizes = st.lists(
    st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=1, max_size=8
).map(lambda sizes: np.array(sizes, dtype=np.int64))
pipelines = st.builds(
    lambda low, high, stretch: replace(
        PIPELINE, area=(low * high, high), aspect=(1 / stretch, stretch)
    ),
    st.floats(0.05, 1),
    st.floats(0.1, 1),
    st.floats(1.05, 3),
)


@given(image_sizes, pipelines, st.integers(0, 2**31))
def test_training_boxes_are_whole_pixels_inside_the_image(sizes, pipeline, seed):
    boxes, flips = training_boxes(pipeline, sizes, np.random.default_rng(seed))
    assert boxes.shape == (len(sizes), 4)
    assert flips.shape == (len(sizes),)
    assert flips.dtype == bool
    assert (boxes == np.rint(boxes)).all()
    top, left, height, width = boxes.T
    assert (np.minimum(top, left) >= 0).all()
    assert (np.minimum(height, width) >= 1).all()
    assert (top + height <= sizes[:, 0]).all()
    assert (left + width <= sizes[:, 1]).all()


def test_training_boxes_are_spread_over_area_aspect_place_and_flip():
    sizes = np.full((20000, 2), 256)
    boxes, flips = training_boxes(PIPELINE, sizes, np.random.default_rng(0))
    top, left, height, width = boxes.T
    area, aspect = height * width / 256**2, width / height
    # Rounding to whole pixels moves area and aspect by up to about one per cent.
    assert 0.155 <= area.min() < 0.17
    assert 0.95 < area.max() <= 1.0
    assert 0.74 <= aspect.min() < 0.77
    assert 1.30 < aspect.max() <= 1.35
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.01)
    assert flips.mean() == pytest.approx(0.5, abs=0.02)
    small = area < 0.5  # area is uniform where (nearly) every box fits
    assert area[small].mean() == pytest.approx(0.33, abs=0.01)
    for start, length in ((top, height), (left, width)):
        room = 256 - length
        free = room >= 20
        assert (start[free] / room[free]).mean() == pytest.approx(0.5, abs=0.02)
        assert (start == 0).any()
        assert (start[free] == room[free]).any()


def test_training_boxes_are_distributed_as_torchvision_draws_them():
    sizes = np.tile([[180, 240]], (4000, 1))
    ours, _ = training_boxes(PIPELINE, sizes, np.random.default_rng(1))
    blank = torch.empty(3, 180, 240)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        draw = RandomResizedCrop.get_params
        theirs = [draw(blank, list(PIPELINE.area), list(PIPELINE.aspect)) for _ in range(4000)]
    for quantile in (0.1, 0.5, 0.9):
        a, b = np.quantile(ours, quantile, axis=0), np.quantile(theirs, quantile, axis=0)
        np.testing.assert_allclose(a, b, atol=8)  # of up to 240 px; standard error about 2


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_flip_probability_at_its_ends(flip):
    pipeline = replace(PIPELINE, flip=flip)
    _, flips = training_boxes(pipeline, np.full((50, 2), 64), np.random.default_rng(0))
    assert flips.tolist() == [bool(flip)] * 50


def test_training_boxes_come_from_the_generator_alone():
    sizes = np.full((30, 2), 100)
    first = training_boxes(PIPELINE, sizes, np.random.default_rng(4))
    again = training_boxes(PIPELINE, sizes, np.random.default_rng(4))
    other = training_boxes(PIPELINE, sizes, np.random.default_rng(5))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((20, 300), (0, 136, 20, 27)),  # too wide: round(20 * 4/3) = 27, centred
        ((300, 20), (136, 0, 27, 20)),  # too high: round(20 / 0.75) = 27
        ((1, 50), (0, 24, 1, 1)),
        ((100, 99), (0, 0, 100, 99)),  # its aspect is allowed: all of it
    ],
    ids=str,
)
def test_largest_centred_box_where_no_draw_fits(size, box):
    area = (1.21, 1.21)  # more than there is
    pipeline = replace(PIPELINE, area=area)
    boxes, _ = training_boxes(pipeline, np.array([size, (64, 64)]), np.random.default_rng(0))
    assert tuple(boxes[0]) == box
    theirs = RandomResizedCrop.get_params(torch.empty(3, *size), list(area), [0.75, 4 / 3])
    assert tuple(boxes[0]) == theirs
    assert tuple(boxes[1]) == (0, 0, 64, 64)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((256, 256), (14, 14, 227, 227)),  # 14.5 rounds to even
        ((256, 341), (14, 57, 227, 227)),
        ((300, 256), (36, 14, 227, 227)),  # 36.5 rounds to even
        ((258, 227), (16, 0, 227, 227)),  # 15.5 rounds to even, upwards
        ((227, 227), (0, 0, 227, 227)),
        ((100, 160), (0, 30, 100, 100)),  # smaller than the crop: what there is
    ],
    ids=str,
)
def test_eval_box_is_the_centre(size, box):
    assert tuple(eval_boxes(PIPELINE, np.array([size]))[0]) == box
    if min(size) >= 227:
        image = torch.arange(size[0] * size[1]).reshape(1, *size)
        top, left, height, width = box
        wanted = tv.center_crop(image, [227, 227])
        assert torch.equal(wanted, image[:, top : top + height, left : left + width])


@given(image_sizes)
def test_eval_boxes_are_square_and_inside(sizes):
    boxes = eval_boxes(PIPELINE, sizes)
    assert (boxes[:, 2] == boxes[:, 3]).all()
    assert (boxes[:, 2] == np.minimum(227, sizes.min(axis=1))).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all()
    # Centred: the margins of both sides differ by less than two pixels.
    margins = sizes - boxes[:, 2:] - 2 * boxes[:, :2]
    assert (abs(margins) <= 1).all()


def test_eval_crop_copies_pixels():
    image = picture(40, 60)
    pipeline = ImagePipeline(resize_px=40, crop_px=32)
    boxes = eval_boxes(pipeline, np.array([[40, 60]]))
    got = crop(stored(image), boxes, 32)[0]
    assert torch.equal(got, planes(image)[:, 4:36, 14:46].float())
