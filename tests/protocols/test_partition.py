"""Which images train, validate and test: the table of parts, row by row."""

import numpy as np
import pytest

from protocols.errors import InvalidInputError
from protocols.partition import (
    PARTS,
    check_parts,
    folds_of,
    labels_of,
    on_test_side,
    shared_classes,
)
from protocols.splits import kfold, mlrc_folds

DIGEST = "3fa9c1d2" * 8


def own(plan, classes=None):
    """Return own images by a plan: part -> classes, two images of each."""
    rows = [(label, part) for part, labels in plan.items() for label in labels for _ in "xy"]
    labels = np.array([label for label, _ in rows])
    parts = np.array([part for _, part in rows]) if any(part for _, part in rows) else None
    return labels_of(labels, classes or int(labels.max()) + 1, parts, "own", DIGEST)


def opened(known, folds=2):
    """Return, for each fold, the (class, part) pairs that train, validate and test."""
    validates = ("val",) if known.has("val") else ("train",)
    tests = ("test", "query", "gallery")

    def pairs(classes, parts):
        index = known.rows(classes, parts)
        words = known.parts[index] if known.parts is not None else [""] * len(index)
        return {(int(c), str(p)) for c, p in zip(known.labels[index], words, strict=True)}

    return [
        (pairs(f.train, ("train",)), pairs(f.validation, validates), pairs(f.test, tests))
        for f in folds_of(known, kfold, folds)
    ]


def both(classes, part):
    return {(c, part) for c in classes}


def test_without_parts_a_shuffled_half_trains():
    known = own({"": range(40)})
    (fold, other) = folds_of(known, kfold, 2)
    seen = set(fold.train) | set(fold.validation)
    assert len(seen) == len(fold.test) == 20
    assert seen.isdisjoint(fold.test)
    assert set(other.train) == set(fold.validation)
    assert seen != set(range(20)), "the order of names must not cut"
    assert set(np.flatnonzero(on_test_side(known)) // 2) == set(fold.test)


def test_a_prefix_of_names_is_no_domain_shift():
    """Half the classes of one kind, by name: about half of each kind trains."""
    for digest in (DIGEST, "00ff" * 16, "ab" * 32):
        known = labels_of(np.arange(200), 200, None, "own", digest)
        test = folds_of(known, kfold, 2)[0].test
        assert 35 <= (test < 100).sum() <= 65


def test_the_shuffle_is_of_the_digest_alone():
    one, again = own({"": range(40)}), own({"": range(40)})
    assert np.array_equal(one.order, again.order)
    other = labels_of(one.labels, 40, None, "own", "00" * 32)
    assert not np.array_equal(one.order, other.order)


@pytest.mark.parametrize("rule", ["halves", "publisher"])
def test_datasets_of_the_literature_keep_their_order(rule):
    known = labels_of(np.arange(40), 40, None, rule, DIGEST)
    for cut in (kfold, mlrc_folds):
        for found, wanted in zip(folds_of(known, cut, 2), cut(40, 2), strict=True):
            for name in ("train", "validation", "test"):
                assert np.array_equal(getattr(found, name), getattr(wanted, name))


def test_halves_do_not_look_at_parts():
    parts = np.array(["test", "train"] * 20)
    known = labels_of(np.arange(40), 40, parts, "halves", DIGEST)
    assert known.parts is None


def test_train_and_test_are_as_named_whatever_the_order():
    known = own({"test": range(8), "train": range(8, 20)})
    folds = opened(known)
    for train, validation, test in folds:
        assert test == both(range(8), "test")
        assert train | validation == both(range(8, 20), "train")
        assert train.isdisjoint(validation)
    assert folds[0][1].isdisjoint(folds[1][1])


def test_val_is_the_one_folds_validation():
    known = own({"train": range(8), "val": range(8, 12), "test": range(12, 20)})
    ((train, validation, test),) = opened(known, folds=1)
    assert train == both(range(8), "train")
    assert validation == both(range(8, 12), "val")
    assert test == both(range(12, 20), "test")
    with pytest.raises(InvalidInputError, match="folds = 1"):
        opened(known, folds=2)


def test_query_and_gallery_are_the_test_side():
    known = own({"train": range(8), "query": range(8, 14), "gallery": range(10, 16)})
    for _, _, test in opened(known):
        assert test == both(range(8, 14), "query") | both(range(10, 16), "gallery")


def test_shared_classes_are_counted_and_their_images_stay_apart():
    known = own({"train": range(12), "val": range(10, 14), "test": range(9, 20)})
    assert shared_classes(known) == {
        ("train", "val"): 2,
        ("train", "test"): 3,
        ("val", "test"): 4,
    }
    ((train, validation, test),) = opened(known, folds=1)
    assert {part for _, part in train} == {"train"}
    assert {part for _, part in validation} == {"val"}
    assert {part for _, part in test} == {"test"}
    assert shared_classes(own({"train": range(8), "test": range(8, 12)})) == {}


REFUSED = [
    ({"train": 8}, "16 train: nothing is tested"),
    ({"train": 8, "val": 4}, "16 train, 8 val: nothing is tested"),
    ({"test": 8}, "16 test: nothing trains"),
    ({"val": 4, "test": 8}, "nothing trains"),
    ({"query": 4, "gallery": 4}, "nothing trains"),
    ({"train": 8, "query": 4}, "query and gallery go together"),
    ({"train": 8, "gallery": 4}, "query and gallery go together"),
    ({"train": 8, "test": 4, "query": 4, "gallery": 4}, "test stands beside query"),
    ({"train": 8, "test": 4, "gallery": 4}, "test stands beside query or gallery"),
]


@pytest.mark.parametrize(("plan", "words"), REFUSED)
def test_parts_that_make_no_study_are_refused_with_their_numbers(plan, words):
    known = own({part: range(classes) for part, classes in plan.items()})
    with pytest.raises(InvalidInputError, match=words):
        check_parts(known)


def test_every_combination_of_parts_is_allowed_or_refused():
    allowed = 0
    for bits in range(1, 2 ** len(PARTS)):
        plan = {p: range(6 * k, 6 * k + 6) for k, p in enumerate(PARTS) if bits >> k & 1}
        known = own(plan, classes=30)
        try:
            check_parts(known)
        except InvalidInputError:
            continue
        allowed += 1
        tested = {"test"} <= plan.keys() or {"query", "gallery"} <= plan.keys()
        assert "train" in plan
        assert tested
    assert allowed == 4  # train with or without val, and test or query with gallery
