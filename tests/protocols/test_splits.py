"""Folds: the published ranges, disjointness for any size, golden values."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import InvalidInputError
from protocols.splits import RULES, kfold, mlrc_folds

GOLDEN = Path(__file__).parents[1] / "golden" / "splits.json"


def classes(*ranges: tuple[int, int]) -> set[int]:
    return {c for first, last in ranges for c in range(first, last + 1)}


# The table of the Reality Check's code: train ranges, validation range, ends included.
PUBLISHED = {
    200: [
        ([(0, 74)], (75, 99)),
        ([(25, 99)], (0, 24)),
        ([(50, 99), (0, 24)], (25, 49)),
        ([(75, 99), (0, 49)], (50, 74)),
    ],
    196: [
        ([(0, 73)], (74, 97)),
        ([(24, 97)], (0, 23)),
        ([(49, 97), (0, 24)], (25, 48)),
        ([(73, 97), (0, 48)], (49, 72)),
    ],
    22634: [
        ([(0, 8487)], (8488, 11316)),
        ([(2829, 11316)], (0, 2828)),
        ([(5658, 11316), (0, 2828)], (2829, 5657)),
        ([(8487, 11316), (0, 5657)], (5658, 8486)),
    ],
}
SIZES = {200: (75, 25, 100), 196: (74, 24, 98), 22634: (8488, 2829, 11317)}
NEVER_VALIDATED = {200: set(), 196: {24, 73}, 22634: {8487}}
NAMES = {200: "cub200", 196: "cars196", 22634: "sop"}

by_dataset = pytest.mark.parametrize("count", PUBLISHED, ids=NAMES.get)


@by_dataset
@pytest.mark.parametrize("fold", range(4))
def test_published_ranges(count, fold):
    got = mlrc_folds(count, 4)[fold]
    train, validation = PUBLISHED[count][fold]
    assert set(got.train.tolist()) == classes(*train)
    assert set(got.validation.tolist()) == classes(validation)
    assert set(got.test.tolist()) == classes((count // 2, count - 1))


@by_dataset
def test_published_sizes(count):
    for fold in mlrc_folds(count, 4):
        assert (len(fold.train), len(fold.validation), len(fold.test)) == SIZES[count]


@by_dataset
def test_classes_that_no_fold_validates(count):
    validated = {c for fold in mlrc_folds(count, 4) for c in fold.validation.tolist()}
    assert set(range(count // 2)) - validated == NEVER_VALIDATED[count]


sizes = st.integers(2, 7).flatmap(
    lambda folds: st.tuples(st.integers(4 * folds, 900), st.just(folds))
)


@pytest.mark.parametrize("rule", RULES)
@given(size=sizes)
def test_no_class_is_in_two_parts_and_none_is_lost(rule, size):
    count, folds = size
    parts = RULES[rule](count, folds)
    assert len(parts) == folds
    for fold in parts:
        together = np.concatenate([fold.train, fold.validation, fold.test])
        assert sorted(together.tolist()) == list(range(count))
        assert min(len(fold.train), len(fold.validation)) >= 1
        assert (np.diff(fold.train) > 0).all()
        assert (np.diff(fold.validation) > 0).all()


@pytest.mark.parametrize("rule", RULES)
@given(size=sizes)
def test_test_classes_are_the_second_half_of_every_fold(rule, size):
    count, folds = size
    for fold in RULES[rule](count, folds):
        assert fold.test.tolist() == list(range(count // 2, count))


@given(sizes)
def test_kfold_validates_every_class_once(size):
    count, folds = size
    validated = np.concatenate([fold.validation for fold in kfold(count, folds)])
    assert validated.tolist() == list(range(count // 2))


@given(sizes)
def test_mlrc_folds_are_all_of_one_size(size):
    count, folds = size
    seen = count // 2
    lengths = {(len(f.train), len(f.validation)) for f in mlrc_folds(count, folds)}
    assert lengths == {(seen - seen // folds, seen // folds)}


def test_kfold_differs_from_the_published_folds_where_rounding_shows():
    # The trap of the original tool: its default split equals the paper's on CUB only.
    def blocks(folds):
        return {tuple(fold.validation.tolist()) for fold in folds}

    assert blocks(kfold(200)) == blocks(mlrc_folds(200))
    assert blocks(kfold(196)) != blocks(mlrc_folds(196))
    assert [len(f.train) for f in kfold(196)] == [73, 73, 74, 74]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("count", "folds"), [(15, 4), (200, 1), (200, 0), (0, 4), (7, 2)])
def test_refuses_too_few_classes_or_folds(rule, count, folds):
    with pytest.raises(InvalidInputError, match=f"{count} classes in {folds} folds"):
        RULES[rule](count, folds)


@pytest.mark.parametrize("rule", RULES)
def test_smallest_accepted_size_is_what_the_refusal_says(rule):
    with pytest.raises(InvalidInputError, match="16 classes"):
        RULES[rule](15, 4)
    assert len(RULES[rule](16, 4)) == 4


CHANGED = (
    "the folds moved. If that is meant: bump the protocol version, add a line under "
    '"Numbers" in CHANGELOG.md, and put these values in tests/golden/splits.json:\n'
)


def ranges(ids: np.ndarray) -> list[list[int]]:
    """Return [first, last] of each run of consecutive class ids."""
    runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
    return [[int(run[0]), int(run[-1])] for run in runs]


def golden_values():
    return {
        f"{rule} {count} in {folds}": [
            {part: ranges(getattr(fold, part)) for part in ("train", "validation", "test")}
            for fold in RULES[rule](count, folds)
        ]
        for rule in sorted(RULES)
        for count, folds in ((200, 4), (196, 4), (22634, 4), (37, 3))
    }


def test_golden_values():
    met, pinned = golden_values(), json.loads(GOLDEN.read_text())
    assert met == pinned, CHANGED + json.dumps(met)
