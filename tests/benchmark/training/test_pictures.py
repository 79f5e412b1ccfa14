"""Batches with a strip among their images: the same crops, without its padding."""

import tracemalloc

import numpy as np
import pytest
import torch

from benchmark.training import pictures
from protocols.images import eval_boxes, training_boxes
from protocols.protocol import ImagePipeline
from tests.made import split

PIPELINE = ImagePipeline(resize_px=16, crop_px=12, area=(0.2, 1.0), flip=0.5)


@pytest.mark.parametrize("strip", [(16, 3000), (3000, 16)])
def test_crops_beside_a_strip_are_those_of_the_padded_batch(strip, monkeypatch):
    sizes = np.array([(16, 20), strip, (16, 16), (24, 16)])
    images = split(sizes, each=1)
    boxes, flips = training_boxes(PIPELINE, sizes, np.random.default_rng(0))
    alone = pictures.cropped(images.store, images.index, boxes, 12, flips)
    centre = pictures.cropped(images.store, images.index, eval_boxes(PIPELINE, sizes), 12)
    monkeypatch.setattr(pictures, "PADDED", 10**9)
    assert torch.equal(alone, pictures.cropped(images.store, images.index, boxes, 12, flips))
    other = pictures.cropped(images.store, images.index, eval_boxes(PIPELINE, sizes), 12)
    assert torch.equal(centre, other)


def test_a_strip_does_not_multiply_the_memory_of_a_batch():
    sizes = np.full((64, 2), 16)
    sizes[7] = (16, 16_000)
    images = split(sizes, each=1)
    tracemalloc.start()
    try:
        pictures.cropped(images.store, images.index, eval_boxes(PIPELINE, sizes), 12)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * sizes.prod(axis=1).sum() * 3  # padded: 64 times the strip
