"""Batches with a strip among their images: the same crops, without its padding."""

import tracemalloc
from dataclasses import replace
from weakref import WeakValueDictionary

import numpy as np
import pytest
import torch

from benchmark.training import pictures
from protocols.images import eval_boxes, training_boxes
from protocols.protocol import ImagePipeline
from tests.made import TOY, split

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


def test_all_splits_of_a_job_share_the_room_for_resident_images(monkeypatch):
    """A quarter of a device is for a job's images, not a quarter for those of each split."""
    cpu = torch.device("cpu")
    size = 40 * 16 * 16 * 3
    # What other tests of this process hold is none of this job's.
    monkeypatch.setattr(pictures, "_LIVE", WeakValueDictionary())
    monkeypatch.setattr(pictures, "_memory", lambda device: 2.5 * size * pictures.SHARE)
    parts = [split(np.full((40, 2), 16), first=100 * number) for number in range(3)]
    made = [pictures.resident(part, cpu) for part in parts]
    assert [found is not None for found in made] == [True, True, False]
    del made
    parts[0].made.clear()  # its job has ended
    again = split(np.full((40, 2), 16))
    assert pictures.resident(again, cpu) is not None


def test_images_that_are_resized_for_evaluation_are_not_put_on_a_device(monkeypatch):
    asked = []
    monkeypatch.setattr(pictures, "resident", lambda part, place: asked.append(place))
    monkeypatch.setattr(pictures, "cropped", lambda store, rows, *rest, **where: rows)
    images, place = split(np.full((8, 2), 20)), torch.device("meta")
    whole = ImagePipeline(resize_px=20, crop_px=20, area=(0.2, 1.0), flip=0.5)
    protocol = replace(TOY, image=whole)
    list(pictures.eval_images(images, protocol, place))
    assert asked == [place]
    list(pictures.eval_images(split(np.full((8, 2), 12)), protocol, place))
    assert asked == [place]
