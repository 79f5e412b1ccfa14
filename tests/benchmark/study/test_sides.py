"""Which classes a test asks for is told from the labels, wherever these words are printed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmark.models import card, trained_on
from benchmark.models.description import Description
from benchmark.report import page
from benchmark.study import checksums, sides
from benchmark.study.references import digest_of
from benchmark.study.sides import Sides
from benchmark.tables.every_eval import to_records
from benchmark.tables.frames import make_tables
from benchmark.tables.headlines import headlines
from benchmark.training.splits import _packed
from protocols.partition import labels_of
from tests.benchmark.report.test_page import make_study

APART = {"train": range(4), "test": range(4, 8)}
SHARED = {"train": range(6), "test": range(4, 8)}  # 4 and 5 are on both sides
GALLERY = {"train": range(4), "query": range(4, 8), "gallery": range(4, 8)}
NEW = "classes never trained on"


def packed(parts, rule="own", sums=None):
    """Return the file of labels of eight classes with two images of each part they are in."""
    rows = [(c, part) for part, classes in parts.items() for c in classes for _ in range(2)]
    labels, named = np.array([c for c, _ in rows]), np.array([part for _, part in rows])
    known = labels_of(labels, 8, named, rule, "5a" * 32)
    return _packed(known, [f"c{n}" for n in range(8)], sums=sums)


def study_of(out, parts, rule="own", places=(("shapes", "tiny", "adam"),), sums=None, **changes):
    """Return a study whose dataset has these parts."""
    study = make_study(out, places=places, **changes)
    for cell in study.cells:
        path = sides.labels_path(out / "cache", cell.dataset, digest_of(study, cell))
        checksums.write_signed(path, packed(parts, rule, sums))
    return study


@pytest.mark.parametrize(
    ("parts", "rule", "expected"),
    [
        (APART, "own", Sides(4, 0, False, True)),
        (SHARED, "own", Sides(4, 2, False, False)),
        (SHARED, "publisher", Sides(4, 2, False, False)),
        (SHARED, "halves", Sides(4, 0, False, True)),  # whatever parts are named
        (GALLERY, "own", Sides(4, 0, True, True)),
        ({"train": range(8), "test": range(8)}, "own", Sides(8, 8, False, False)),
    ],
)
def test_sides_are_those_of_the_folds_and_parts(tmp_path, parts, rule, expected):
    study = study_of(tmp_path, parts, rule)
    assert sides.sides_of(study, study.cells[0]) == expected


def test_validation_classes_are_not_trained_on(tmp_path):
    study = study_of(tmp_path, {"train": range(4), "val": [4], "test": range(4, 8)}, folds=1)
    assert sides.sides_of(study, study.cells[0]) == Sides(4, 0, False, False)


def test_a_fold_alone_was_trained_on_its_own_classes(tmp_path):
    """Classes 0 to 3 train and test; each of two folds trains on two of them."""
    study = study_of(tmp_path, {"train": range(4), "test": range(8)})
    (cell, *_), folds = study.cells, range(2)
    assert study.protocol.folds == 2
    assert [sides.sides_of(study, cell, [k]).trained_too for k in folds] == [2, 2]
    assert sides.sides_of(study, cell).trained_too == 4


@pytest.mark.parametrize("fault", ["missing", "edited"])
def test_nothing_is_claimed_without_the_labels(tmp_path, fault):
    study = study_of(tmp_path, SHARED)
    cell = study.cells[0]
    path = sides.labels_path(tmp_path / "cache", cell.dataset, digest_of(study, cell))
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(packed(APART))  # not what its checksum says
    assert sides.sides_of(study, cell) is None
    html = page.render(make_tables(study))
    assert "retrieval of test classes</h1>" in html
    assert NEW not in html
    assert "which share no class with training or test" not in html
    assert {d["classes"] for d in exported(study)} == {"test classes"}


def exported(study):
    """Return what the export says of the data of each result."""
    found = [json.loads(body) for body in to_records(make_tables(study)).values()]
    results = [result for record in found for result in record["evaluation_results"]]
    assert results
    return [result["source_data"]["additional_details"] for result in results]


def test_table_report_and_export_tell_that_test_classes_were_trained_on(tmp_path):
    study = study_of(tmp_path, SHARED)
    frames, warning = make_tables(study), "2 of 4 test classes were trained on too"
    (table,) = headlines(frames)
    assert table.caption.endswith(f" · {warning}")
    html = page.render(frames)
    assert "retrieval of 4 test classes, 2 of which were trained on too</h1>" in html
    assert f"<b>Caution:</b> {warning}." in html
    assert "which share no class with training or test" not in html
    assert NEW not in html
    assert {d["classes"] for d in exported(study)} == {warning}


@pytest.mark.parametrize("rule", ["own", "halves"])
def test_copies_of_training_images_are_told_wherever_the_test_is(tmp_path, rule):
    """Of the eight test images, in classes 4 to 7, the last three are those of class 0 and 1."""
    sums = [f"{number:016x}" + "0" * 48 for number in (*range(8), *range(8, 13), 0, 1, 2)]
    study = study_of(tmp_path, APART, rule, sums=sums)
    assert sides.sides_of(study, study.cells[0]) == Sides(4, 0, False, False, 3)
    warning = "3 test images are byte copies of images on the training side"
    frames = make_tables(study)
    (table,) = headlines(frames)
    assert table.caption.count(warning) == 1
    html = page.render(frames)
    assert f"<b>Caution:</b> {warning}" in html
    assert NEW not in html
    assert "which share no class with training or test" not in html
    assert all(d["classes"].startswith(warning) for d in exported(study))


def test_a_model_says_which_images_its_folds_were_trained_on(tmp_path):
    """Of each of the four classes that train, images 2 c and 2 c + 1; a fold has two of them."""
    begins = [f"{number:016x}" for number in range(16)]
    study = study_of(tmp_path, APART, sums=[begin + "0" * 48 for begin in begins])
    cell = study.cells[0]
    one, other, both = (trained_on.described(study, cell, k) for k in ([0], [1], [0, 1]))
    found = [set(told["sha256_begin"].split()) for told in (one, other)]
    assert found[0] | found[1] == set(begins[:8])
    assert (len(found[0]), len(found[1]), one["images"], both["images"]) == (4, 4, 4, 8)
    assert both["sha256_begin"].split() == begins[:8]
    assert both["dataset_digest"] == digest_of(study, cell)


def test_copies_on_one_side_are_nothing_to_warn_of(tmp_path):
    sums = [f"{number // 2:016x}" + "0" * 48 for number in range(16)]
    study = study_of(tmp_path, APART, sums=sums)
    assert sides.sides_of(study, study.cells[0]) == Sides(4, 0, False, True, 0)


def test_new_classes_are_called_new(tmp_path):
    study = study_of(tmp_path, APART)
    frames = make_tables(study)
    (table,) = headlines(frames)
    assert "trained on too" not in table.caption
    html = page.render(frames)
    assert f"retrieval of {NEW}</h1>" in html
    assert "Caution" not in html
    assert "which share no class with training or test" in html
    told = {(d["classes"], d["queries"]) for d in exported(study)}
    assert told == {("test classes, never trained on", "each image a query among all others")}


def test_a_report_over_several_datasets_calls_new_what_all_of_them_ask_for(tmp_path):
    known = [Sides(4, 0, False, True), Sides(4, 2, False, False)]
    assert sides.heading(known[:1] * 2) == NEW
    assert sides.heading(known) == "test classes, some of which were trained on too"
    assert sides.heading([known[0], None]) == sides.heading([None]) == "test classes"


def test_queries_apart_from_a_gallery_are_told(tmp_path):
    told = {d["queries"] for d in exported(study_of(tmp_path, GALLERY))}
    assert told == {"each query among the images of a gallery"}


def described(tested_on):
    """Return a model as its export describes it."""
    origin = {
        **dict.fromkeys(("dataset", "trunk", "recipe", "method", "protocol"), "x"),
        "protocol_hash": "ab", "settings": {}, "seed": 0, "folds": [0], "joined": False,
        "steps": [1], "classes": [4], "test": {"map_at_r": 0.25}, "tested_on": tested_on,
        "seeds": {"count": 1, "best_by_validation": True, "means": {}},
    }  # fmt: skip
    return Description(32, 32, "angle", None, name="ms", size=8, origin=origin)


UNSEEN = ("never trained on", "unseen classes")


@pytest.mark.parametrize(
    ("tested_on", "said", "unsaid"),
    [
        (Sides(4, 0, False, True), (*UNSEEN, "trained on, each image a query among all"), ()),
        (Sides(4, 0, True, True), (*UNSEEN, "each query among the images of a"), ("others",)),
        (
            Sides(4, 2, False, False),
            ("2 of 4 test classes were trained on too; each image a query", '"Image retrieval"'),
            UNSEEN,
        ),
        (
            Sides(4, 0, False, False, 3),
            ("3 test images are byte copies of images on the training side", '"Image retrieval"'),
            UNSEEN,
        ),
        (None, ("On the study's test images:",), (*UNSEEN, "a query", "too")),
    ],
)  # fmt: skip
def test_a_card_says_what_the_test_asked_for(tested_on, said, unsaid):
    form = None if tested_on is None else json.loads(json.dumps(vars(replace(tested_on))))
    text = card.render("ms.onnx", described(form))
    for words in said:
        assert words in text
    for words in unsaid:
        assert words not in text
