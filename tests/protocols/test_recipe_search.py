"""Values of a recipe as axes of every method's search: the same for all, and from its own on."""

from dataclasses import replace

import pytest

from benchmark.running.phases import timetable
from benchmark.study import datasets
from benchmark.study.folder import CellKey, Study, load_study
from benchmark.study.grid import Axes, key_of, make_cells
from benchmark.study.suggestions import suggest
from benchmark.training import splits
from benchmark.training.job import Job, execute
from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError
from protocols.knobs import changed, read_value, recipe_under, value_of
from protocols.narrowing import space_under
from protocols.protocol import Pace, protocol_line
from protocols.recipe_search import SEARCHED, of_method, recipe_of, recipe_space
from protocols.space import Integer, Real, defaults

TOY = load("protocol", "toy")
ADAM, SGD = load("recipe", "adam"), load("recipe", "sgd")
PACE = Pace(max_steps=8, steps_per_epoch=4, validate_every=4, patience=9)


def under(**ranges):
    """Return the toy protocol with values of its recipe changed, as a study file says them."""
    keys = {f"recipe.{name}": value for name, value in ranges.items()}
    return changed(TOY, {key: read_value(key, value) for key, value in keys.items()})


def space(protocol, method, recipe=ADAM):
    return space_under(protocol, method, load("method", method), "toy", recipe)


def test_two_numbers_are_searched_between_and_the_recipe_keeps_its_own():
    protocol = under(lr=[1e-4, 1e-2], weight_decay=[0, 1e-3], momentum=0.5)
    assert value_of(protocol, "recipe.lr") == (1e-4, 1e-2)
    assert recipe_under(protocol, ADAM) == replace(ADAM, momentum=0.5)
    assert protocol.rules_hash() != TOY.rules_hash()
    assert "changed: recipe.lr [0.0001, 0.01], recipe.momentum 0.5" in protocol_line(protocol)
    found = recipe_space(protocol, ADAM)
    assert {n: (type(p), p.low, p.high, p.default, p.log) for n, p in found.items()} == {
        "recipe-lr": (Real, 1e-4, 1e-2, 1e-3, True),
        "recipe-weight_decay": (Real, 0, 1e-3, 0, False),  # no logarithm of 0
    }
    steps = recipe_space(under(warmup_steps=[10, 200]), SGD)["recipe-warmup_steps"]
    assert (type(steps), steps.low, steps.high, steps.default) == (Integer, 10, 200, 100)


def test_what_is_not_searched_leaves_hash_and_space_as_they_were():
    assert "recipe_values" not in TOY.rules()
    assert recipe_space(TOY, ADAM) == {}
    assert recipe_space(under(lr=2e-3), ADAM) == {}
    assert recipe_of(ADAM, {"alpha": 2.0}) is ADAM


@pytest.mark.parametrize("method", ["ms", "nsoftmax", "proxy_an", "linear_probe"])
def test_every_method_that_trains_gets_the_same_axes_within_the_same_budget(method):
    protocol = under(lr=[1e-4, 1e-2])
    own, found = space(TOY, method), space(protocol, method)
    assert found.keys() - own.keys() == {"recipe-lr"}
    assert {n: p.describe() for n, p in found.items() if n in own} == {
        n: p.describe() for n, p in own.items()
    }
    axes = Axes((method,), tuple(datasets.find(("toy",), Registry(), None)), ("tiny",), ("adam",))
    cell = make_cells(axes, protocol, Registry())[0]
    key = key_of(cell, protocol, Registry(), None)
    assert (key.searched, key.trials) == (True, TOY.search.trials)
    assert cell.identity["recipe"] == ADAM.values(), "the recipe is what its file says"
    assert cell.id != make_cells(axes, TOY, Registry())[0].id


@pytest.mark.parametrize("method", ["untrained", "lda"])
def test_a_row_that_does_not_train_has_none(method):
    assert space(under(lr=[1e-4, 1e-2]), method).keys() == space(TOY, method).keys()


def test_the_first_trial_is_the_recipes_own_and_the_next_ones_move_it():
    protocol = under(lr=[1e-4, 1e-2])
    found = space(protocol, "ms")
    first = suggest("0" * 16, protocol.search, found, [])
    assert first == defaults(found) == {**defaults(space(TOY, "ms")), "recipe-lr": 1e-3}
    assert of_method(first) == defaults(space(TOY, "ms"))
    assert recipe_of(ADAM, first) == ADAM
    assert recipe_of(ADAM, {**first, "recipe-lr": 5e-4}) == replace(ADAM, lr=5e-4)


def test_a_study_under_a_searched_recipe_is_read_back(tmp_path):
    protocol = under(lr=[1e-4, 1e-2])
    Study(tmp_path, protocol).save()
    assert load_study(tmp_path).protocol == protocol


def test_a_training_is_that_of_the_recipe_with_this_value(tmp_path):
    source = splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)
    cell = CellKey("id", "toy", "tiny", "adam", "ms", "ms")
    protocol = replace(TOY, pace=PACE)

    def run(recipe, settings):
        job = Job(cell, protocol, recipe, "final", 0, 0, settings, source, "cpu")
        return execute(job)

    settings = {"beta": 30.0, "recipe-lr": 4e-3}
    searched = run(recipe_of(ADAM, settings), settings)
    plain = run(replace(ADAM, lr=4e-3), {"beta": 30.0})
    assert searched.record.status == "done", searched.record.detail
    assert searched.record.history == plain.record.history
    assert searched.vectors == plain.vectors
    assert searched.record.settings == settings
    assert searched.record.id != plain.record.id


def test_phases_range_over_what_is_searched_of_the_recipe():
    recipe = replace(ADAM, head_first_steps=5)
    protocol = under(head_first_steps=[2, 8])
    found = timetable(load("method", "ms"), space(protocol, "ms", recipe), recipe, TOY.pace)
    assert found.begins == {"whole network": (2, 8)}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("lr", [1e-2, 1e-4], r"met \[0.01, 0.0001\], expected a number above 0, or \[low, high\]"),
        ("lr", [1e-3, 1e-3], "the same for all methods"),
        ("lr", [1e-4, 1e-3, 1e-2], "expected a number"),
        ("lr", [0, 1e-2], "expected a number above 0"),
        ("warmup_steps", [1.5, 3], "expected a whole number"),
        ("optimizer", ["adam", "sgd"], r"expected one of adam, adamw, radam, rmsprop, sgd$"),
    ],
)
def test_ends_that_bound_no_search_are_refused(name, value, why):
    with pytest.raises(InvalidInputError, match=why):
        under(**{name: value})


def test_a_range_without_the_recipes_own_value_is_refused():
    with pytest.raises(InvalidInputError, match=r"'adam' has 0\.001\. Choose a range around"):
        recipe_under(under(lr=[1e-2, 1e-1]), ADAM)
    with pytest.raises(InvalidInputError, match="'adam' has none"):
        recipe_under(under(sharpness=[0.01, 0.1]), ADAM)
    assert recipe_space(under(sharpness=[0.01, 0.1]), load("recipe", "sam"))


def test_published_settings_leave_nothing_to_search():
    with pytest.raises(InvalidInputError, match="searches nothing: one value for each recipe"):
        changed(under(lr=[1e-4, 1e-2]), {"params": "published"})


def test_every_number_of_a_recipe_file_may_be_searched():
    assert set(SEARCHED) < {f for f in ADAM.__dataclass_fields__}
