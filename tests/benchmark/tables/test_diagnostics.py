"""What a search, a choice and a validation can be trusted with."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from benchmark.study.records import ChoiceRecord, RunRecord, TrialRecord
from benchmark.tables import diagnostics
from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError
from protocols.space import Choice, Integer, Real, described, rebuilt

ROOT = Path(__file__).parents[3]
SPACE = rebuilt(
    described(
        {
            "alpha": Real(0.1, 10, default=1.0, log=True),
            "margin": Real(0.0, 1.0, default=0.2),
            "anchors": Integer(1, 9, default=2),
            "mining": Choice(("hard", "semi"), default="semi"),
        }
    )
)


# Spaces


def test_a_space_survives_as_plain_data():
    for name in Registry().names("method"):
        space = load("method", name).space("emoji")
        again = rebuilt(described(space))
        assert list(again) == list(space)
        for key, parameter in space.items():
            assert type(again[key]) is type(parameter)
            assert again[key].name == key
            assert again[key].default == parameter.default
            assert again[key].describe() == parameter.describe()
            assert list(again[key].corners()) == list(parameter.corners())


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidInputError, match="kind 'spline', expected real"):
        rebuilt({"x": {"kind": "spline"}})


# Edges


@pytest.mark.parametrize(
    ("name", "value", "side"),
    [
        ("margin", 0.0, "lower"),
        ("margin", 0.0199, "lower"),
        ("margin", 0.021, None),
        ("margin", 0.985, "upper"),
        ("alpha", 0.108, "lower"),  # 1.7 % of two decades
        ("alpha", 0.2, None),  # 1 % of the linear range, 15 % of the searched one
        ("alpha", 9.5, "upper"),
        ("anchors", 1, "lower"),
        ("anchors", 2, None),
        ("anchors", 9, "upper"),
        ("mining", "hard", None),
    ],
)
def test_a_value_on_a_bound_is_noticed_on_the_searched_scale(name, value, side):
    found = diagnostics.edges({name: value}, SPACE)
    assert [edge.side for edge in found] == ([side] if side else [])
    for edge in found:
        assert (edge.name, edge.value) == (name, value)
        assert edge.bound == (SPACE[name].low if side == "lower" else SPACE[name].high)


def test_a_choice_without_a_space_has_no_edges():
    old = ChoiceRecord("c", "cell", "best", 0, {"margin": 0.0}, 0.5)
    assert diagnostics.space_of(old) == {}
    assert diagnostics.space_of(None) == {}
    assert diagnostics.edges(old.settings, diagnostics.space_of(old)) == []
    assert list(diagnostics.space_of(replace(old, space=described(SPACE)))) == list(SPACE)


# Phases


def trained(seed, best, begins):
    """Return a run of which each fold kept the weights after ``best`` steps."""
    return RunRecord(
        f"r{seed}", "c", seed, {}, "done", [None] * len(best), best_steps=best,
        phases=[{"second": step} for step in begins],
    )  # fmt: skip


@pytest.mark.parametrize(("best", "kept"), [(39, 0), (40, 0), (41, 1), (None, 0)])
def test_weights_were_trained_in_a_phase_from_the_step_after_its_begin(best, kept):
    """Steps count from 0, so after 40 of them the last was number 39, and 40 begins the phase."""
    (found,) = diagnostics.phase_counts([trained(0, [best], [40])])
    assert found == diagnostics.PhaseCount("second", (40,), 1, 1, kept)


def test_phases_are_counted_over_runs_and_folds():
    runs = [trained(0, [100, 20], [40, 40]), trained(1, [50, 60], [60, None])]
    (found,) = diagnostics.phase_counts(runs)
    assert found == diagnostics.PhaseCount("second", (40, 60), 4, 3, 1)
    assert diagnostics.phases_reached(runs[1]) == "second 1/2"
    assert diagnostics.phase_counts([trained(0, [], [])]) == []


# Importance


def trials(count, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        setting = {
            "alpha": float(10 ** rng.uniform(-1, 1)),
            "margin": float(rng.uniform()),
            "anchors": int(rng.integers(1, 10)),
            "mining": str(rng.choice(["hard", "semi"])),
        }
        value = 0.5 - 0.2 * abs(np.log10(setting["alpha"])) + 0.002 * rng.standard_normal()
        found.append(TrialRecord("t", "c", number, setting, "done", float(value), []))
    return found


def test_the_hyperparameter_that_decides_comes_first():
    shares = diagnostics.importance(SPACE, trials(60))
    assert next(iter(shares)) == "alpha"
    assert shares["alpha"] > 0.7
    assert set(shares) == set(SPACE)
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_too_few_trials_or_one_hyperparameter_have_no_importance():
    assert diagnostics.importance(SPACE, trials(diagnostics.MIN_TRIALS - 1)) == {}
    assert diagnostics.importance({"alpha": SPACE["alpha"]}, trials(60)) == {}


def test_shares_that_chance_gives_as_well_are_not_told():
    told, times = 0, 40
    for seed in range(times):
        values = np.random.default_rng([seed, 1]).uniform(size=20)
        made = [replace(t, value=float(v)) for t, v in zip(trials(20, seed), values, strict=True)]
        told += bool(diagnostics.importance(SPACE, made))
    assert told <= 6  # one in twenty; 7 or more of 40 are met once in 300
    assert diagnostics.importance(SPACE, trials(60)), "alpha decides, and 60 trials show it"


def test_importance_is_the_same_in_every_process():
    code = (
        "from tests.benchmark.tables.test_diagnostics import SPACE, trials; from benchmark."
        "tables import diagnostics; import sys; print(diagnostics.importance(SPACE, trials(40)));"
        "sys.exit('torch' in sys.modules)"
    )
    printed = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code]
        environment = {"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1


# Agreement of validation and test


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.floats(-1, 1, allow_subnormal=False)),
        min_size=5,
        max_size=30,
    )
)
@settings(max_examples=100, deadline=None)
def test_the_rank_correlation_is_scipys(pairs):
    first, second = ([float(v) for v in values] for values in zip(*pairs, strict=True))
    rho = diagnostics.rank_correlation(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert rho is None
    else:
        assert rho == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_four_methods_are_too_few_to_rank():
    assert diagnostics.rank_correlation([1, 2, 3, 4], [1, 2, 3, 4]) is None
    assert diagnostics.rank_correlation([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == pytest.approx(1)


# Oracle gap


def test_the_oracle_gap_pairs_claimed_and_selected_of_each_run():
    runs = [
        RunRecord(
            "r",
            "c",
            seed,
            {},
            "done",
            [],
            separated={"map_at_r": 0.2 + 0.1 * seed},
            oracle={"map_at_r": 0.2 + 0.1 * seed + gap},
        )
        for seed, gap in enumerate((0.01, 0.02, 0.03))
    ]
    found = diagnostics.oracle_gap(runs, "map_at_r")
    assert (found.n, found.mean) == (3, pytest.approx(0.02))
    assert found.high - found.mean == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-6)
    assert diagnostics.oracle_gap([replace(runs[0], oracle=None)], "map_at_r").n == 0
