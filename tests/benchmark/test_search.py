"""Suggestions depend on the cell and its finished trials, on nothing else."""

import optuna
import pytest

from benchmark import search
from benchmark.records import TrialRecord
from benchmark.selection import choose, improves
from protocols.protocol import SearchRule
from protocols.space import Choice, Integer, Real, defaults


def named(**space):
    for name, parameter in space.items():
        parameter.__set_name__(None, name)
    return space


SPACE = named(
    margin=Real(-0.2, 2.0, default=0.1),
    rate=Real(1e-6, 1.0, default=1e-3, log=True),
    anchors=Integer(1, 3, default=2),
    soft=Choice((True, False), default=True),
)


def objective(settings):
    return 1 - (settings["margin"] - 0.7) ** 2 + 0.1 * settings["soft"]


def run(cell, rule, count, trials=()):
    trials = list(trials)
    while len(trials) < count:
        settings = search.suggest(cell, rule, SPACE, trials)
        value = objective(settings)
        trials.append(TrialRecord(str(len(trials)), cell, len(trials), settings, "done", value, []))
    return trials


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_stopped_search_goes_on_as_if_it_had_not(sampler):
    rule = SearchRule(trials=9, sampler=sampler, startup_trials=3)
    straight = run("cell", rule, 9)
    resumed = run("cell", rule, 9, run("cell", rule, 5))
    assert resumed == straight


def test_the_first_trial_is_the_authors_defaults():
    assert run("cell", SearchRule(trials=1), 1)[0].settings == defaults(SPACE)


def test_trials_differ_from_each_other_and_between_cells():
    rule = SearchRule(trials=12, startup_trials=4)
    settings = [t.settings for t in run("a", rule, 12)]
    assert len({str(s) for s in settings}) == 12, "a fixed seed would repeat its suggestions"
    assert settings[1:] != [t.settings for t in run("b", rule, 12)][1:]


def test_the_model_beats_random_search_on_an_easy_function():
    def mean_best(sampler):
        rule = SearchRule(trials=25, sampler=sampler, startup_trials=6)
        late = [t.value for cell in "abcd" for t in run(cell, rule, 25)[12:]]
        return sum(late) / len(late)

    assert mean_best("tpe") > mean_best("random") + 0.05


def test_the_database_is_a_copy_and_is_mended(tmp_path):
    path, rule = tmp_path / "search.db", SearchRule(trials=4, startup_trials=2)
    trials = run("cell", rule, 4)
    search.export(path, "cell", SPACE, trials[:2])
    search.export(path, "cell", SPACE, trials)
    search.export(path, "cell", SPACE, trials)
    study = optuna.load_study(study_name="cell", storage=f"sqlite:///{path}")
    assert [t.values[0] for t in study.trials] == [t.value for t in trials]
    assert study.best_params == choose(trials).settings


def trial(number, value, status="done"):
    return TrialRecord(str(number), "c", number, {}, status, value, [])


def test_choice_takes_the_best_and_the_earliest_among_equals():
    assert choose([trial(0, 0.2), trial(1, 0.5), trial(2, 0.5)]).number == 1
    assert choose([trial(0, 0.0, "failed"), trial(1, 0.0)]).number == 1
    assert choose([trial(0, 0.9, "failed")]) is None


def test_only_a_strictly_better_validation_counts():
    rows = [{"map_at_r": v} for v in (0.1, 0.3, 0.3)]
    assert [improves(rows[:n], "map_at_r") for n in (1, 2, 3)] == [True, True, False]
