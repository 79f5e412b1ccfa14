"""Hyperparameters: one line is attribute, default, bounds, scale and search axis."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import InvalidInputError, UnknownNameError, unknown_name
from protocols.method import Method
from protocols.space import (
    Choice,
    Integer,
    Real,
    declared,
    defaults,
    described,
    place,
    resolve,
    size,
)


class Loss:
    """Stands for any class that keeps ``settings``."""

    margin = Real(-0.2, 2.0, default=0.1)
    scale = Real(0.01, 100.0, default=1.0, log=True)
    steps = Integer(1, 3, default=2)
    soft = Choice((True, False), default=True)

    def __init__(self, **given):
        self.settings = resolve(declared(type(self)), given)


class Sub(Loss):
    """Adds one and narrows one."""

    margin = Real(0.0, 1.0, default=0.5)
    extra = Choice(("a", "b"), default="b")


def test_instance_reads_the_chosen_value_and_the_class_the_declaration():
    loss = Loss(margin=1.5, steps=3)
    assert (loss.margin, loss.scale, loss.steps, loss.soft) == (1.5, 1.0, 3, True)
    assert isinstance(Loss.margin, Real)
    assert Loss.margin.name == "margin"


def test_instances_do_not_share_values():
    first, second = Loss(margin=0.3), Loss(margin=0.7)
    assert (first.margin, second.margin) == (0.3, 0.7)


def test_value_cannot_be_set_afterwards():
    loss = Loss()
    with pytest.raises(AttributeError, match="margin is a hyperparameter"):
        loss.margin = 1.0
    assert loss.margin == 0.1


def test_declared_in_source_order_base_first_and_overridden():
    assert list(declared(Loss)) == ["margin", "scale", "steps", "soft"]
    assert list(declared(Sub)) == ["margin", "scale", "steps", "soft", "extra"]
    assert defaults(declared(Sub))["margin"] == 0.5
    assert defaults(declared(Loss))["margin"] == 0.1


def test_resolve_completes_with_defaults_and_does_not_change_what_it_gets():
    given_settings = {"steps": 1}
    assert resolve(declared(Loss), given_settings) == {
        "margin": 0.1,
        "scale": 1.0,
        "steps": 1,
        "soft": True,
    }
    assert given_settings == {"steps": 1}


def test_unknown_name_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"'margn'\. Did you mean 'margin'"):
        Loss(margn=1.0)
    with pytest.raises(UnknownNameError) as refusal:
        Loss(zzzzzz=1.0)
    assert "Did you mean" not in str(refusal.value)
    assert "Known: margin, scale, soft, steps." in str(refusal.value)


def test_unknown_name_lists_nearest_first_then_all_sorted():
    text = str(unknown_name("method", "mss", ["triplet", "ms", "group"]))
    assert text == (
        "no method 'mss'. Did you mean 'ms'? Known: group, ms, triplet. A file of yours: "
        "--plugin FILE."
    )


@given(st.floats(-0.2, 2.0))
def test_real_accepts_its_range(value):
    assert Loss(margin=value).margin == value


@given(st.floats(allow_nan=True).filter(lambda v: not -0.2 <= v <= 2.0))
def test_real_refuses_the_rest(value):
    with pytest.raises(InvalidInputError, match=r"margin=.*expected \[-0.2, 2\]"):
        Loss(margin=value)


@pytest.mark.parametrize("value", ["0.5", None, True, [0.5]])
def test_real_refuses_other_types(value):
    with pytest.raises(InvalidInputError, match=r"margin=.*expected a number"):
        Loss(margin=value)


def test_real_turns_whole_numbers_into_floats():
    assert type(Loss(margin=1).margin) is float


@pytest.mark.parametrize("value", [1, 2, 3])
def test_integer_accepts_its_range(value):
    assert Loss(steps=value).steps == value


@pytest.mark.parametrize("value", [0, 4, -1, 2.0, True, "2", None])
def test_integer_refuses_the_rest(value):
    with pytest.raises(InvalidInputError, match="steps="):
        Loss(steps=value)


def test_choice_accepts_options_of_the_same_type_only():
    assert Loss(soft=False).soft is False
    assert Sub(extra="a").extra == "a"
    for value in (0, 1.0, "True", None):
        with pytest.raises(InvalidInputError, match=r"soft=.*True \| False"):
            Loss(soft=value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Real(0.0, 1.0, default=1.5),
        lambda: Real(0.0, 1.0, default=math.nan),
        lambda: Real(1.0, 1.0, default=1.0),
        lambda: Real(2.0, 1.0, default=1.5),
        lambda: Real(0.0, math.inf, default=1.0),
        lambda: Real(0.0, 1.0, default=0.5, log=True),
        lambda: Real(-1.0, 1.0, default=0.5, log=True),
        lambda: Integer(1, 3, default=4),
        lambda: Integer(3, 1, default=2),
        lambda: Integer(0, 3, default=1, log=True),
        lambda: Choice(("a", "b"), default="c"),
        lambda: Choice(("a", "a"), default="a"),
    ],
)
def test_bad_declarations_fail_where_they_are_written(make):
    with pytest.raises(InvalidInputError):
        make()


def test_corners_are_the_extreme_values():
    assert tuple(Loss.margin.corners()) == (-0.2, 2.0)
    assert tuple(Loss.steps.corners()) == (1, 3)
    assert tuple(Loss.soft.corners()) == (True, False)
    for parameter in declared(Sub).values():
        assert [parameter.accept(value) for value in parameter.corners()] == list(
            parameter.corners()
        )


def test_description_tells_bounds_and_scale():
    described = {name: p.describe() for name, p in declared(Loss).items()}
    assert described == {
        "margin": "[-0.2, 2]",
        "scale": "[0.01, 100] log",
        "steps": "{1..3}",
        "soft": "True | False",
    }
    assert Integer(1, 64, default=8, log=True).describe() == "{1..64} log"


EVERY_KIND = [
    Real(-0.2, 2.0, default=0.1),
    Real(1e-6, 1.0, default=1e-3, log=True),
    Integer(2, 40, default=10),
    Integer(1, 64, default=8, log=True),
    Choice(("a", 1, 2.5, False), default="a"),
]


@pytest.mark.parametrize("parameter", EVERY_KIND, ids=lambda p: p.describe())
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_share_gives_a_value_inside_that_gives_the_share_back(parameter, share):
    value = parameter.at(share)
    parameter.name = "it"
    assert parameter.accept(value) == value
    back = parameter.share(value)
    assert 0 <= back <= 1
    assert parameter.at(min(back, math.nextafter(1, 0))) == pytest.approx(value)
    if isinstance(parameter, Real):
        assert back == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("parameter", EVERY_KIND[2:], ids=lambda p: p.describe())
def test_equal_steps_of_the_share_reach_every_value(parameter):
    met = [parameter.at((k + 0.5) / 20_000) for k in range(20_000)]
    assert len(set(map(repr, met))) == parameter.parts
    if isinstance(parameter, Choice) or not parameter.log:
        counts = Counter(map(repr, met))
        assert max(counts.values()) - min(counts.values()) <= 2


def test_settings_are_the_same_where_reals_share_a_thousandth_of_the_range():
    space = declared(Loss)
    assert size(space) == 1000 * 1000 * 3 * 2
    here = {"margin": 0.1, "scale": 1.0, "steps": 2, "soft": True}
    assert place(space, here) == place(space, {**here, "margin": 0.1001})
    for other in ({"margin": 0.103}, {"scale": 1.02}, {"steps": 3}, {"soft": False}):
        assert place(space, here) != place(space, {**here, **other})
    for name, value in (("margin", 2.0), ("scale", 100.0)):  # the upper bound is in the last part
        assert space[name].part(value) == 999


def test_an_option_that_is_not_searched_stays_in_the_space_with_its_default_alone():
    class Two(Method):
        """Two forms, one of them for comparison only."""

        margin = Real(0.0, 1.0, default=0.1)
        old = Choice((False, True), default=False, searched=False)

    assert declared(Two)["old"].options == (False, True)
    space = Two.space("emoji")
    assert list(space) == ["margin", "old"]
    assert space["old"].options == (False,)
    assert space["old"].name == "old"
    assert declared(Two)["old"].options == (False, True), "the declaration is left as it is"
    assert resolve(declared(Two), {"old": True}) == {"margin": 0.1, "old": True}


@pytest.mark.parametrize(
    ("options", "default"),
    [
        (((1, 2), (3, 4)), (1, 2)),
        (([1], [2]), [1]),
        ((None, 1), 1),
        ((float("nan"), 1.0), 1.0),
        ((float("inf"), 1.0), 1.0),
        ((np.float32(0.5), np.float32(1)), np.float32(1)),
        ((np.int64(1), np.int64(2)), np.int64(1)),
        ((b"a", b"b"), b"a"),
        ((1, True), 1),
        ((1, 1.0), 1),
        ((0, 1), True),
        ((), 1),
        (("a", "a"), "a"),
    ],
)
def test_options_that_a_record_does_not_give_back_are_refused_when_declared(options, default):
    with pytest.raises(InvalidInputError, match="options"):
        Choice(options, default=default)


@pytest.mark.parametrize("odd", [np.int64(2), 2.0, True])
def test_whole_numbers_are_ints(odd):
    for numbers in ((odd, 9, 5), (1, odd, 1), (1, 9, odd)):
        low, high, default = numbers
        with pytest.raises(InvalidInputError):
            Integer(low, high, default=default)


@pytest.mark.parametrize("odd", ["0.2", True, None, [0.2], 0.2j])
def test_texts_and_truth_values_are_no_bounds_of_real_numbers(odd):
    for low, high, default in ((odd, 0.5, 0.2), (0.1, odd, 0.2), (0.1, 0.5, odd)):
        with pytest.raises(InvalidInputError, match="expected numbers, without quotes"):
            Real(low, high, default=default)


def test_numbers_of_numpy_are_bounds():
    axis = Real(np.float32(0.5), np.int64(2), default=np.float64(1.0))
    assert [type(v) for v in (axis.low, axis.high, axis.default)] == [float] * 3
    assert (axis.low, axis.high, axis.default) == (0.5, 2.0, 1.0)


@pytest.mark.parametrize("odd", ["ab", b"ab", {"a", "b"}, {"a": 1}, iter("ab"), 3])
def test_options_that_are_no_list_are_refused(odd):
    with pytest.raises(InvalidInputError, match="expected a list of them"):
        Choice(odd, default="a")


@given(st.lists(st.one_of(st.text(), st.integers(), st.booleans(), st.floats()), max_size=4))
def test_whatever_may_be_declared_comes_back_from_json(options):
    try:
        choice = Choice(options, default=options[0] if options else 0)
    except InvalidInputError:
        return
    again = json.loads(json.dumps(list(choice.options)))
    assert [(type(v), v) for v in again] == [(type(v), v) for v in choice.options]


def test_an_option_is_met_by_an_equal_number_and_by_no_truth_value():
    """What is typed as ``1`` means an option 1.0, and gives the option as it was declared."""
    scale = Choice((0.5, 1.0, 2.0), default=0.5)
    taken = scale.accept(1)
    assert (type(taken), taken) == (float, 1.0)
    count = Choice((0, 1), default=0)
    assert type(count.accept(1.0)) is int
    soft = Choice((True, False), default=True)
    assert soft.accept(False) is False
    for choice, odd in ((scale, True), (count, False), (soft, 1), (soft, 0.0), (scale, "1.0")):
        with pytest.raises(InvalidInputError, match="expected"):
            choice.accept(odd)


class Lender(Method):
    """It has an axis that others might take."""

    margin = Real(0.0, 1.0, default=0.1)
    form = Choice(("a", "b"), default="a")


@pytest.mark.parametrize(
    ("name", "value"),
    [("low", 0.05), ("high", 0.5), ("default", 0.2), ("log", True), ("name", "x")],
)
def test_nothing_of_an_axis_changes_once_it_is_said(name, value):
    before = described(declared(Lender))
    with pytest.raises(InvalidInputError, match=r"stays so.*write a new Real"):
        setattr(Lender.margin, name, value)
    with pytest.raises(InvalidInputError, match="write a new Choice"):
        Lender.form.options = ("b",)
    assert described(declared(Lender)) == before
    assert Lender.margin.name == "margin"


def test_an_axis_is_taken_from_another_class_as_it_is_or_not_at_all():
    class Same(Lender):
        """It takes the axis under its own name, which changes nothing."""

        margin = Lender.margin

    assert declared(Same)["margin"] is Lender.margin
    # Python 3.11 wraps what is raised while a class is made; its cause is ours.
    with pytest.raises((InvalidInputError, RuntimeError)) as met:

        class Other(Lender):
            """It takes the axis under another name."""

            reach = Lender.margin

    error = met.value.__cause__ or met.value
    assert "Other.reach is the hyperparameter 'margin' of another place" in str(error)
    assert Lender.margin.name == "margin"


def test_an_axis_that_replaces_a_class_s_own_is_told():
    class Patched(Method):
        """Its axis is replaced from outside."""

        margin = Real(0.0, 1.0, default=0.1)

    Patched.margin = Real(0.19, 0.21, default=0.2)
    with pytest.raises(InvalidInputError, match=r"Patched\.margin was replaced"):
        declared(Patched)


def test_another_default_makes_another_axis():
    moved = Lender.margin.starting_at(0.7)
    assert (moved.default, moved.low, moved.high, moved.name) == (0.7, 0.0, 1.0, "margin")
    assert Lender.margin.default == 0.1
    with pytest.raises(InvalidInputError, match="expected"):
        Lender.margin.starting_at(1.5)
