"""The balanced sampler keeps every claim of its docstring."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.batches import balanced
from protocols.errors import InvalidInputError


def draw(labels, batch_size, per_class, count, seed=0):
    batches = balanced(np.asarray(labels), batch_size, per_class, np.random.default_rng(seed))
    return list(islice(batches, count))


def labels_of(sizes, seed=0):
    """Return shuffled labels with ``sizes[c]`` images of class 3 c + 1."""
    labels = np.repeat(3 * np.arange(len(sizes)) + 1, sizes)
    return np.random.default_rng(seed).permutation(labels)


cases = st.tuples(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(0, 2**31),
).filter(lambda case: case[2] <= len(case[0]))


@given(cases)
def test_batch_has_distinct_classes_and_so_many_of_each(case):
    sizes, per_class, wide, seed = case
    labels = labels_of(sizes, seed)
    for batch in draw(labels, wide * per_class, per_class, 12, seed):
        assert batch.shape == (wide * per_class,)
        met, counts = np.unique(labels[batch], return_counts=True)
        assert len(met) == wide
        assert (counts == per_class).all()


@given(cases)
def test_no_class_comes_twice_in_a_pass(case):
    sizes, per_class, wide, seed = case
    labels = labels_of(sizes, seed)
    length = len(sizes) // wide  # batches of one pass; the tail waits
    batches = draw(labels, wide * per_class, per_class, 4 * length, seed)
    for start in range(0, len(batches), length):
        seen = np.concatenate([np.unique(labels[b]) for b in batches[start : start + length]])
        assert len(np.unique(seen)) == len(seen) == wide * length


@given(cases)
def test_small_classes_show_each_image_equally_often_up_to_one(case):
    sizes, per_class, wide, seed = case
    labels = labels_of(sizes, seed)
    for batch in draw(labels, wide * per_class, per_class, 12, seed):
        for label in np.unique(labels[batch]):
            members = np.flatnonzero(labels == label)
            shown = [(batch == member).sum() for member in members]
            assert max(shown) - min(shown) <= 1
            assert max(shown) == -(-per_class // len(members))


def test_small_class_by_hand():
    # 3 images, 4 wanted: two once and one twice in every batch; never 2 + 2 + 0.
    for batch in draw([0, 0, 0], 4, 4, 50):
        assert sorted(np.bincount(batch).tolist()) == [1, 1, 2]


def test_same_generator_same_batches_whatever_the_global_state():
    labels = labels_of([5, 2, 9, 4, 4])
    first = draw(labels, 8, 4, 20, seed=7)
    np.random.random(5)
    again = draw(labels, 8, 4, 20, seed=7)
    other = draw(labels, 8, 4, 20, seed=8)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_labels_are_left_alone_and_global_state_is_not_read_or_moved():
    labels = labels_of([5, 5, 5])
    kept, state = labels.copy(), np.random.get_state()
    draw(labels, 6, 3, 10)
    assert np.array_equal(labels, kept)
    assert all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state(), strict=True))


def test_every_class_and_image_is_reached_about_equally_often():
    labels = labels_of([4, 8, 8, 8, 4])
    batches = np.stack(draw(labels, 8, 4, 1000))
    per_class = np.unique(labels[batches], return_counts=True)[1] / batches.size
    assert per_class == pytest.approx(np.full(5, 0.2), abs=0.02)
    shares = np.bincount(batches.ravel(), minlength=len(labels)) / batches.size
    expected = 0.2 / np.array([(labels == label).sum() for label in labels])
    assert shares == pytest.approx(expected, abs=0.008)


def test_endless():
    assert len(draw([0, 0, 1, 1], 4, 2, 333)) == 333


@pytest.mark.parametrize(
    ("batch_size", "per_class", "words"),
    [
        (10, 4, "batch of 10 with 4 images a class"),
        (3, 4, "batch of 3 with 4"),
        (0, 4, "batch of 0"),
        (16, 4, "3 classes: a batch of 16 with 4 images a class needs 4"),
    ],
)
def test_refuses_sizes_that_do_not_fit(batch_size, per_class, words):
    batches = balanced(labels_of([4, 4, 4]), batch_size, per_class, np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match=words):
        next(batches)
