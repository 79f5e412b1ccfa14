"""Changes of a protocol: every key, every refusal, and what a search may still vary."""

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from protocols import paper
from protocols.discovery import Registry, load
from protocols.errors import BenchmarkError, InvalidInputError
from protocols.images import eval_boxes
from protocols.knobs import KNOBS, SHORT, changed, read_value, recipe_under, value_of
from protocols.narrowing import checked, space_under
from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule, protocol_line
from protocols.recipe import Recipe
from protocols.space import declared, defaults, described

TOY = load("protocol", "toy")
OTHER = {  # a value for every key that no shipped protocol has
    "seeds": 17,
    "folds": 7,
    "fold_rule": "kfold",
    "params": "published",
    "batch_size": 96,
    "sampler": "m_per_class",
    "pair_images_per_class": 8,
    "class_images_per_class": 4,
    "embedding_size": 77,
    "selection_metric": "r_precision",
    "precision": "bf16",
    "threads_per_job": 3,
    "eval_batch": 33,
    "retries": 5,
    "timeout_s": 77.5,
    "match_cost_s": 12.5,
    "image.resize_px": 40,
    "image.crop_px": [16, 8],
    "image.area": [0.25, 0.75],
    "image.aspect": [0.9, 1.1],
    "image.flip": 0.25,
    "pace.max_steps": 77,
    "pace.steps_per_epoch": 7,
    "pace.validate_every": 11,
    "pace.patience": 9,
    "search.trials": 23,
    "search.sampler": "random",
    "search.startup_trials": 4,
    "search.bounds": "narrow",
    "search.max_failures_in_a_row": 9,
    "recipe.optimizer": "radam",
    "recipe.lr": 3e-4,
    "recipe.weight_decay": 1e-5,
    "recipe.momentum": 0.5,
    "recipe.warmup_steps": 3,
    "recipe.batch_norm": "frozen_stats",
    "recipe.clip": 2.5,
    "recipe.sharpness": 0.2,
    "recipe.layer_decay": 0.6,
    "recipe.head_first_steps": 4,
}


def test_every_number_of_a_protocol_has_a_key_or_a_reason_to_have_none():
    inner = {"image": ImagePipeline, "pace": Pace, "search": SearchRule}
    every = {f.name for f in fields(Protocol)} - inner.keys()
    every |= {f"{name}.{f.name}" for name, cls in inner.items() for f in fields(cls)}
    every |= {f"recipe.{f.name}" for f in fields(Recipe)}
    words = {"name", "version", "summary", "label", "recipe.name", "recipe.summary"}
    by_options = {"datasets", "trunk", "recipe", "oracle_gap", "budget_s", "wants_weights"}
    results_of_changes = {"overrides", "recipe_values", "method_values", "paces"}
    # What a row is called and what a failure costs are no matter of taste; a schedule is a recipe.
    fixed = {"reference", "pretrained_reference", "baseline", "search.failed_score"}
    schedules = {"recipe.cycle", "recipe.averaging", "recipe.decay", "recipe.cosine"}
    assert every - words - by_options - results_of_changes - fixed - schedules == KNOBS.keys()


@pytest.mark.parametrize("key", KNOBS)
def test_every_key_moves_the_hash_and_says_what_was_changed(key):
    value = read_value(key, OTHER[key])
    found = changed(TOY, {key: value})
    assert value_of(found, key) == value != value_of(TOY, key)
    if key != "match_cost_s":  # is a rule only where it holds
        assert found.hash() != TOY.hash()
    said = SHORT.get(key, key)
    assert found.overrides == {said: value}
    assert f"changed: {said} " in protocol_line(found)
    assert changed(found, {key: value}) is found


def test_a_value_that_changes_nothing_leaves_no_trace():
    for key in KNOBS:
        value = value_of(TOY, key)
        if value is not None:
            assert changed(TOY, {key: read_value(key, value)}) is TOY, key
    assert changed(TOY, {}) is TOY


def test_a_pace_changes_on_every_dataset_that_has_its_own():
    paper = load("protocol", "reality-check")
    found = changed(paper, {"pace.max_steps": 5000})
    assert {found.on(name).pace.max_steps for name in ("cub200", "sop", "emoji")} == {5000}
    assert found.on("sop").pace.validate_every == paper.on("sop").pace.validate_every


WRONG = {
    "seeds": [0, -1, 1.5, True, "3"],
    "retries": [-1],
    "timeout_s": [0, float("inf"), float("nan"), "1"],
    "image.crop_px": [7, [8], [8, 8, 8], [8, 8.0], "8"],
    "image.area": [[0.5], [0.6, 0.5], [0, 1], [0.5, 1.1], 0.5, "a"],
    "image.aspect": [[0, 1], [1, float("nan")]],
    "image.flip": [-0.1, 1.1, True],
    "search.sampler": ["cmaes", 1, None],
    "recipe.lr": [0, -1],
    "method.ms": [1],
    "method.ms.beta": [[], {}, [[1]], None],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in WRONG.items() for v in vs])
def test_a_wrong_value_is_named_with_what_was_expected(key, value):
    with pytest.raises(InvalidInputError, match="expected") as caught:
        read_value(key, value)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("key", "near"),
    [("image.crop", "image.crop_px"), ("lr", "recipe.lr"), ("max_steps", "pace.max_steps")],
)
def test_an_unknown_key_gets_the_nearest(key, near):
    with pytest.raises(InvalidInputError, match=f"Did you mean {near}"):
        read_value(key, 1)


def test_a_baseline_is_refused_with_the_ways_there_are():
    """The guide that the message names has them; nothing of another name is proposed."""
    with pytest.raises(InvalidInputError, match="no key 'baseline'") as caught:
        read_value("baseline", "ms")
    said = str(caught.value)
    assert "Did you mean" not in said
    assert "--methods" in said
    assert "--out" in said
    ((page, heading),) = re.findall(r"(docs/\w+\.md), '(.*)'", said)
    guide = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    assert f"\n## {heading}\n" in guide


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image.crop_px": 64}, "raise image.resize_px"),
        ({"pace.validate_every": 41}, "never be validated"),
        ({"batch_size": 18}, "pair_images_per_class 4"),
        ({"params": "published", "method.ms.beta": 40.0}, "no method"),
    ],
)
def test_values_that_contradict_each_other_are_refused(changes, words):
    with pytest.raises(InvalidInputError, match=words):
        changed(TOY, changes)


def test_a_square_given_as_a_rectangle_is_the_square():
    assert read_value("image.crop_px", [16, 16]) == 16
    assert read_value("image.crop_px", [16, 8]) == (16, 8)


def test_a_recipe_takes_its_changes():
    adam = load("recipe", "adam")
    assert recipe_under(TOY, adam) is adam
    found = recipe_under(changed(TOY, {"recipe.lr": 0.5}), adam)
    assert found == replace(adam, lr=0.5)


def space_of(changes, dataset="toy"):
    made = {
        key: checked(*key.removeprefix("method.").rsplit(".", 1), value, Registry())
        for key, value in changes.items()
    }
    recipe = load("recipe", "adam")
    return space_under(changed(TOY, made), "ms", load("method", "ms"), dataset, recipe)


def test_a_fixed_hyperparameter_stands_in_the_space_with_its_one_value():
    found = space_of({"method.ms.beta": 30})
    assert found["beta"].parts == 1
    assert defaults(found)["beta"] == 30.0
    assert isinstance(defaults(found)["beta"], float)
    untouched = space_of({})
    assert {k: v.describe() for k, v in found.items() if k != "beta"} == {
        k: v.describe() for k, v in untouched.items() if k != "beta"
    }


def test_narrower_bounds_keep_the_scale_and_move_the_default_inside():
    whole, found = space_of({}), space_of({"method.ms.beta": (50, 60)})
    assert (found["beta"].low, found["beta"].high, found["beta"].default) == (50, 60, 50)
    assert found["beta"].log == whole["beta"].log
    assert whole["beta"].default == 40


@pytest.mark.parametrize("value", [(60, 50), (1e9, 2e9), (1, 2, 3), "x", True])
def test_bounds_outside_the_declared_ones_are_refused(value):
    with pytest.raises(InvalidInputError, match="beta"):
        space_of({"method.ms.beta": value})


def test_bounds_reach_the_papers_space_too():
    found = space_of({"method.ms.beta": (30, 31)}, dataset="cub200")
    assert (found["beta"].low, found["beta"].high) == (30, 31)
    assert found.keys() == load("method", "ms").space("cub200").keys()


def test_narrower_bounds_keep_the_scale_that_the_paper_searched():
    """The method itself searches on logarithms; the paper did not, on its datasets."""
    bounds = {"method.ms.beta": (30, 31)}
    assert (space_of({})["beta"].log, space_of({}, "cub200")["beta"].log) == (True, False)
    assert space_of(bounds)["beta"].log is True
    assert space_of(bounds, "cub200")["beta"].log is False


@pytest.mark.parametrize(
    ("asked", "default"),
    [
        ((1, 2), 1),  # the method's own, 4, is not among them
        ((2, 4, 8), 4),
        ((8, 4), 4),
    ],
)
def test_options_are_narrowed_to_some_of_them(asked, default):
    kept = checked("divide_conquer", "learners", asked, Registry())
    found = space_under(
        changed(TOY, {"method.divide_conquer.learners": kept}),
        "divide_conquer",
        load("method", "divide_conquer"),
        "toy",
        load("recipe", "adam"),
    )
    assert found["learners"].options == asked
    assert found["learners"].default == default


def test_options_that_a_method_lacks_are_refused():
    with pytest.raises(InvalidInputError, match="learners"):
        checked("divide_conquer", "learners", (1, 3), Registry())


def test_an_unknown_method_or_hyperparameter_gets_the_nearest():
    with pytest.raises(BenchmarkError, match="Did you mean 'beta'"):
        checked("ms", "betta", 1, Registry())
    with pytest.raises(BenchmarkError, match="no method"):
        checked("mss", "beta", 1, Registry())


HASHES = {
    "box": "0d2f6d315167",
    "box-finetune": "7d2233f86f51",
    "emoji": "5d3d735e38d2",
    "finetune": "2fabbe7e75c0",
    "quick": "184c73e8664b",
    "reality-check": "2fd38e0cf281",
    "standard": "6113a8d62a83",
    "toy": "e3a458599b83",
}


@pytest.mark.parametrize("name", HASHES)
def test_shipped_protocols_keep_their_hash(name):
    assert load("protocol", name).rules_hash() == HASHES[name]


def test_a_rectangle_is_cut_from_the_middle_in_its_own_shape():
    tall = ImagePipeline(resize_px=128, crop_px=(256, 128))
    sizes = np.array([[300, 140], [256, 128], [200, 150], [100, 400]])
    assert eval_boxes(tall, sizes).tolist() == [
        [22, 6, 256, 128],
        [0, 0, 256, 128],
        [0, 25, 200, 100],
        [0, 175, 100, 50],
    ]


def test_a_square_is_cut_as_it_always_was():
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 700, (4000, 2))
    for crop_px in (8, 33, 224, 227):
        side = np.minimum(crop_px, sizes.min(axis=1, keepdims=True))
        corner = np.rint((sizes - side) / 2).astype(np.int64)
        expected = np.concatenate([corner, side, side], axis=1)
        found = eval_boxes(ImagePipeline(resize_px=256, crop_px=crop_px), sizes)
        assert np.array_equal(found, expected)


def test_specs_have_no_protocol_without_a_file_of_its_name():
    folder = Path(__file__).parents[2] / "protocols" / "specs"
    stems = {path.stem.replace("_", "-") for path in folder.glob("[a-z]*.py")}
    assert {load("protocol", name).name for name in HASHES} | {"photos"} == stems


def at_batch(size, method, dataset="cub200"):
    """Return the space of one of the paper's methods under its rules with another batch."""
    protocol = replace(load("protocol", "reality-check"), batch_size=size)
    recipe = load("recipe", "paper")
    return space_under(protocol, method, load("method", method), dataset, recipe)


@pytest.mark.parametrize("method", sorted(set(paper.METHODS) - {"pretrained"}))
def test_a_batch_that_the_paper_searched_has_its_bounds_then(method):
    """At 256 on CUB it has bounds of its own; elsewhere those of 32 stay."""
    usual, large = at_batch(32, method), at_batch(256, method)
    papers = described(load("method", method).space("cub200"))
    assert described(usual) == described(at_batch(64, method)) == papers
    assert described(at_batch(256, method, "sop")) == described(at_batch(32, method, "sop"))
    assert list(large) == list(usual)
    own = declared(load("method", method))
    for name, (low, high, log) in paper.search_space(method, "cub200", 256).items():
        found = large[name]
        assert (found.low, found.high) == (max(low, own[name].low), min(high, own[name].high))
        assert (found.log, found.name) == (log, name)
        for value in (found.low, found.default, found.high):
            assert own[name].accept(value) == value, "a search's setting builds the method"


def test_known_bounds_at_a_batch_of_256():
    ends = {
        ("ntxent", "temperature"): (1e-2, 100),
        ("cosface", "scale"): (0.01, 100),
        ("fastap", "bins"): (2, 250),
    }
    for (method, name), expected in ends.items():
        found = at_batch(256, method)[name]
        assert (found.low, found.high) == expected
