"""Settings of a search are asked for again: honest searches follow, edited ones do not."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from benchmark.study import suggestions
from benchmark.study.records import TrialRecord
from benchmark.submissions import replay, schema
from benchmark.submissions.read import read_row
from benchmark.submissions.verify import examine
from protocols.protocol import SearchRule
from protocols.space import Choice, Integer, Real, described

MS = "toy/toy/ms"
WIDE = {  # in a method's own order, which is not the alphabet's
    "weight": Real(0.0, 2.0, default=1.0),
    "margin": Real(1e-4, 1.0, default=0.01, log=True),
    "anchors": Integer(1, 3, default=2),
    "hard": Choice((True, False), default=True),
    "loss": Choice(("a", "b"), default="a"),
}
SMALL = {"soft": Choice((True, False), default=True), "anchors": Integer(1, 3, default=1)}


def made(body, space, *, sampler="tpe", count=14, startup=5):
    """Return a search as its files say, from values that are the settings' own."""
    rule = SearchRule(trials=count, startup_trials=startup, sampler=sampler)
    identity = json.loads(json.dumps(body["identity"]))
    identity["rules"]["search"].update(trials=count, startup_trials=startup, sampler=sampler)
    cell, done = schema.cell_id(identity), []
    rng = np.random.default_rng(count)
    for number in range(count):
        settings = suggestions.suggest(cell, rule, space, done)
        value = round(float(rng.uniform(0.2, 0.4)), 6)
        done.append(TrialRecord("id", cell, number, settings, "done", value, [value]))
    best = max(done, key=lambda trial: trial.value)
    chosen = {"rule": "best", "trial": best.number, "value": best.value}
    sorted_space = dict(sorted(described(space).items()))  # as a row's file has it
    changes = {"id": cell, "identity": identity, "space": sorted_space}
    changes["chosen"] = {**chosen, "settings": best.settings}
    read = schema.Cell.model_validate({**body, **changes})
    trials = [SimpleNamespace(**vars(trial)) for trial in done]
    return SimpleNamespace(place="p/d/ms", search=1, trials=trials, cell=read, runs={})


@pytest.fixture(scope="module")
def body(submitted):
    results = submitted / "results"
    return read_row(results, results / MS).cell.model_dump(by_alias=True)


@pytest.mark.parametrize("startup", [1, 2, 5, 20])
@pytest.mark.parametrize("space", [WIDE, SMALL], ids=["wide", "small"])
def test_an_honest_search_follows_from_its_id_and_scores(body, space, startup):
    count = min(14, 6 if space is SMALL else 14)  # six settings are all that the small one has
    assert list(replay.looks(made(body, space, count=count, startup=startup))) == []


@pytest.mark.parametrize("sampler", ["gp", "random"])
def test_other_samplers(body, sampler):
    found = made(body, WIDE, sampler=sampler, count=8, startup=4)
    assert list(replay.looks(found)) == []
    found.trials[7].settings = {**found.trials[7].settings, "weight": 1.23456}
    lines = list(replay.looks(found))
    assert [("trial 7" in line) for line in lines] == ([True] if sampler == "gp" else [])


def test_gp_without_torch_is_said_to_be_left_out(body, monkeypatch):
    found = made(body, WIDE, sampler="gp", count=6, startup=4)
    monkeypatch.setattr(replay, "find_spec", lambda name: None)
    (line,) = replay.looks(found)
    assert line == "p/d/ms: its gp search is asked for again only where torch is installed"


@pytest.mark.parametrize("name", WIDE)
def test_a_setting_that_was_changed_is_named(body, name):
    found = made(body, WIDE)
    met = found.trials[9].settings
    other = {"weight": 0.7, "margin": 0.3, "anchors": 1 + met["anchors"] % 3}
    other |= {"hard": not met["hard"], "loss": "ab".replace(met["loss"], "")}
    met[name] = other[name]
    (line,) = replay.looks(found)
    assert line.startswith("p/d/ms: the setting of trial 9 does not follow from the trials before")


def test_first_settings_that_the_id_does_not_draw_are_named(body):
    found = made(body, WIDE)
    for trial in found.trials[1:5]:
        trial.settings["weight"] *= 0.5
    (line,) = replay.looks(found)
    assert line.startswith("p/d/ms: the settings of trials 1 to 4 are not what its id draws")
    other = made(body, WIDE)
    repeated = {**found.cell.identity, "search_repeat": 1}
    other.cell = other.cell.model_copy(update={"id": schema.cell_id(repeated)})
    assert "trials 1 to 4" in next(replay.looks(other))


def test_scores_that_were_raised_mostly_show(body):
    """The sampler parts trials into good and bad, so not every score moves what it suggests."""
    seen = 0
    for number in range(4, 12):
        found = made(body, WIDE)
        found.trials[number].value = 0.5
        seen += bool(list(replay.looks(found)))
    assert seen >= 6


def test_the_rows_of_a_real_study_follow_and_an_edited_one_is_for_a_human_look(submitted, tmp_path):
    shutil.copytree(submitted / "results", tmp_path / "results")
    results = tmp_path / "results"
    assert not [line for line in examine(results, None).looks if "does not follow" in line]
    trials = results / MS / "trials.jsonl"
    lines = [json.loads(line) for line in trials.read_text().splitlines()]
    share = lines[1]["settings"]["base"]
    lines[1]["settings"]["base"] = 0.5 * share
    trials.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
    (row,) = (row for row in examine(results, None).rows if row.place == MS)
    (line,) = replay.looks(row)
    assert line.startswith(f"{MS}: the setting of trial 1 does not follow")
