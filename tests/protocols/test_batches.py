"""The two samplers keep every claim of their docstrings."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.utils import common_functions

from protocols.batches import balanced, m_per_class
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


# The Reality Check's sampler


def listed(labels, batch_size, per_class, passes, seed=0):
    """Return (passes, classes, per_class) positions, from as many batches as that takes.

    They are those of the batches one after the other: that a pass does not end with a batch
    must leave no trace in them.
    """
    classes = len(np.unique(labels))
    count = -(-passes * classes * per_class // batch_size)
    batches = m_per_class(labels, batch_size, per_class, np.random.default_rng(seed))
    drawn = list(islice(batches, count))
    assert {batch.shape for batch in drawn} == {(batch_size,)}
    flat = np.concatenate(drawn)[: passes * classes * per_class]
    return flat.reshape(passes, classes, per_class)


def check_passes(labels, passes):
    """Assert that each pass lists every class once, without repeats where there are enough."""
    every, sizes = np.unique(labels, return_counts=True)
    for one in passes:
        of_class = labels[one]
        assert (of_class == of_class[:, :1]).all(), "the images of a class follow one another"
        assert sorted(of_class[:, 0].tolist()) == every.tolist(), "every class, and once"
        for images in one:
            enough = sizes[np.searchsorted(every, labels[images[0]])] >= len(images)
            assert not enough or len(set(images.tolist())) == len(images)


@given(cases)
def test_a_pass_lists_every_class_once_and_passes_follow_one_another(case):
    sizes, per_class, wide, seed = case
    labels = labels_of(sizes, seed)
    check_passes(labels, listed(labels, wide * per_class, per_class, 5, seed))


@pytest.fixture
def library(monkeypatch):
    """Return what draws passes as the paper's code did: by the library, told no size of batch."""
    monkeypatch.setattr(common_functions, "NUMPY_RANDOM", np.random.RandomState(0))

    def draw(labels, per_class, passes):
        shape = (passes, len(np.unique(labels)), per_class)
        return np.array(list(MPerClassSampler(labels, per_class, None, np.prod(shape)))).reshape(
            shape
        )

    return draw


def test_the_passes_of_the_library_are_of_the_same_kind(library):
    labels = labels_of([1, 2, 3, 4, 9, 9, 9])
    check_passes(labels, library(labels, 4, 20))


def test_a_batch_straddles_two_passes_and_can_hold_a_class_twice():
    labels = labels_of([4, 4, 4])
    batches = m_per_class(labels, 4, 2, np.random.default_rng(0))
    drawn = np.stack(list(islice(batches, 300)))  # 3 classes a pass, 2 in a batch
    twice = [len(np.unique(labels[batch])) == 1 for batch in drawn]
    # Every third batch is half of one pass and half of the next: one time in three the same class.
    assert not any(twice[0::3])
    assert not any(twice[2::3])
    assert np.mean(twice[1::3]) == pytest.approx(1 / 3, abs=0.15)


def test_images_and_places_in_a_pass_are_as_often_met_as_in_the_library(library):
    labels = labels_of([2, 3, 8, 8])
    passes = 2000
    ours = listed(labels, 8, 4, passes)
    theirs = library(labels, 4, passes)
    met = [np.bincount(drawn.ravel(), minlength=len(labels)) / passes for drawn in (ours, theirs)]
    assert met[0] == pytest.approx(met[1], abs=0.1)
    _, sizes = np.unique(labels, return_counts=True)
    expected = (4 / sizes)[np.searchsorted(np.unique(labels), labels)]
    assert met[0] == pytest.approx(expected, abs=0.07)
    first = np.bincount(labels[ours[:, 0, 0]] // 3, minlength=4) / passes
    assert first == pytest.approx(np.full(4, 0.25), abs=0.04)


def test_a_class_with_too_few_images_is_drawn_with_replacement(library):
    """Not each in turn, as ``balanced`` does: of 3 images in 4 draws two can be missing."""
    labels = np.zeros(3, int)
    for drawn in (listed(labels, 4, 4, 400), library(labels, 4, 400)):
        counts = {tuple(sorted(np.bincount(one.ravel(), minlength=3).tolist())) for one in drawn}
        assert counts == {(1, 1, 2), (0, 2, 2), (0, 1, 3), (0, 0, 4)}


def test_its_batches_come_from_the_generator_alone():
    labels = labels_of([5, 2, 9, 4, 4])
    kept = labels.copy()
    state = np.random.get_state()
    first = listed(labels, 8, 4, 20, seed=7)
    assert all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state(), strict=True))
    np.random.random(5)
    assert np.array_equal(first, listed(labels, 8, 4, 20, seed=7))
    assert not np.array_equal(first, listed(labels, 8, 4, 20, seed=8))
    assert np.array_equal(labels, kept)


@pytest.mark.parametrize(
    ("batch_size", "per_class"),
    [(10, 4), (3, 4), (16, 4)],
)
def test_it_refuses_sizes_that_do_not_fit(batch_size, per_class):
    labels = labels_of([4, 4, 4])
    with pytest.raises(InvalidInputError, match=f"batch of {batch_size} from 3 classes, 4 images"):
        next(m_per_class(labels, batch_size, per_class, np.random.default_rng(0)))
    with pytest.raises(AssertionError):
        MPerClassSampler(labels, per_class, batch_size, length_before_new_iter=48)
