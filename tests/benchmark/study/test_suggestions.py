"""Suggestions depend on the cell and its finished trials, on nothing else."""

import itertools
import os
import pwd
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from alembic import command
from scipy.stats.qmc import discrepancy

from benchmark.study import suggestions
from benchmark.study.records import TrialRecord
from benchmark.study.selection import choose, improves
from benchmark.study.suggestions import name_in_storage
from protocols.errors import InvalidInputError, StoreError
from protocols.protocol import SearchRule
from protocols.space import Choice, Integer, Real, defaults, place, size


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
        settings = suggestions.suggest(cell, rule, SPACE, trials)
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
    check_copies(suggestions.storage_of(tmp_path))
    assert (tmp_path / "search.db").exists()


def shown(trials, name="cell"):
    return suggestions.Shown(name, "validation_map_at_r", {"method": "ms"}, [1e9] * len(trials))


def export(storage, space, trials, name="cell"):
    suggestions.export(storage, shown(trials, name), space, trials)


def test_a_trial_in_the_database_has_its_own_times_and_no_value_where_it_failed(tmp_path):
    one, two = run("cell", SearchRule(trials=2), 2)
    spans = [{"start": 100.0, "end": 130.0}, {"start": 90.0, "end": 120.0}]
    one = replace(one, folds=[0.25, 0.75], measured={"seconds": 60.0, "spans": spans})
    two = replace(
        two, status="failed", reason="non_finite", value=0.0, folds=[None, 0.5],
        measured={"seconds": 7.0},
    )  # fmt: skip
    export(storage := suggestions.storage_of(tmp_path), SPACE, [one, two])
    held = optuna.load_study(study_name="cell", storage=storage)
    times = [(t.datetime_start.timestamp(), t.datetime_complete.timestamp()) for t in held.trials]
    assert times == [(90.0, 130.0), (1e9 - 7, 1e9)]
    assert [(t.state.name, t.values) for t in held.trials] == [
        ("COMPLETE", [one.value]),
        ("FAIL", None),
    ]
    folds = [{k: v for k, v in t.user_attrs.items() if "fold" in k} for t in held.trials]
    assert folds == [{"fold_0": 0.25, "fold_1": 0.75}, {"fold_1": 0.5}]
    assert held.metric_names == ["validation_map_at_r"]
    assert held.user_attrs == {"method": "ms"}


def check_copies(storage):
    """A copy grows with the trials, is not cut by an earlier state, and is mended."""
    rule = SearchRule(trials=4, startup_trials=2)
    trials = run("cell", rule, 4)
    for some in (trials[:2], trials, trials, trials[:1]):
        export(storage, SPACE, some)
    with suggestions._opened(storage) as database:
        study = optuna.load_study(study_name="cell", storage=database)
        assert [t.values[0] for t in study.trials] == [t.value for t in trials]
        assert study.best_params == choose(trials).settings
        assert all(t.state.is_finished() for t in study.trials)
    again = [replace(t, value=t.value / 2) if t.number == 1 else t for t in trials]
    export(storage, SPACE, again[:3])  # one was lost, and done again
    with suggestions._opened(storage) as database:
        study = optuna.load_study(study_name="cell", storage=database)
        assert [t.values[0] for t in study.trials] == [t.value for t in again[:3]]
    others = [replace(t, id=f"other {t.id}") for t in run("another", rule, 3)]
    export(storage, SPACE, others)
    with suggestions._opened(storage) as database:
        study = optuna.load_study(study_name="cell", storage=database)
        assert [t.user_attrs["record"] for t in study.trials] == [t.id for t in others]


def test_a_database_that_is_away_is_one_line_without_its_password(tmp_path):
    trials = run("cell", SearchRule(trials=1), 1)
    for uri in (
        "postgresql+psycopg://me:secret@127.0.0.1:1/x",
        f"sqlite:///{tmp_path / 'no' / 'x.db'}",
    ):
        with pytest.raises(StoreError, match=r"Optuna's database at .* is behind") as raised:
            export(uri, SPACE, trials)
        assert "secret" not in str(raised.value)
        assert "\n" not in str(raised.value)


def older(path, revision):
    """Make a database as an older Optuna laid it out."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    config = storage._version_manager._create_alembic_config()
    storage.engine.dispose()
    path.unlink()
    command.upgrade(config, revision)


def newer(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")


def damaged(path):
    path.write_bytes(b"not a database" * 400)


def planted(path, kind):
    """Put a database of another version in the place of one with a search in it."""
    export(f"sqlite:///{path}", SPACE, run("cell", SearchRule(trials=1), 1))
    {"newer": newer, "damaged": damaged, "older": lambda p: older(p, "v3.0.0.d")}[kind](path)


@pytest.mark.parametrize(
    ("kind", "said"), [("newer", "later"), ("older", "older"), ("damaged", "not a database")]
)
def test_a_database_of_another_version_is_rebuilt_when_it_is_deleted(
    tmp_path, monkeypatch, kind, said
):
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    planted(tmp_path / "search.db", kind)
    storage, trials = suggestions.storage_of(tmp_path), run("cell", SearchRule(trials=1), 1)
    with pytest.raises(StoreError, match=r"; delete search\.db, it is rebuilt\)$") as raised:
        export(storage, SPACE, trials)
    assert said in str(raised.value)
    (tmp_path / "search.db").unlink()
    export(storage, SPACE, trials)


def test_a_shared_database_of_an_older_optuna_is_upgraded_as_said(tmp_path, monkeypatch):
    planted(tmp_path / "shared.db", "older")
    uri, trials = f"sqlite:///{tmp_path / 'shared.db'}", run("cell", SearchRule(trials=1), 1)
    monkeypatch.setenv("OPTUNA_STORAGE", uri)
    with pytest.raises(StoreError, match="older Optuna") as raised:
        export(uri, SPACE, trials)
    (said,) = re.findall(r'upgrade it: (optuna .*OPTUNA_STORAGE")', str(raised.value))
    beside = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(said, shell=True, check=True, capture_output=True, env=beside)
    export(uri, SPACE, trials)


def test_a_shared_database_of_a_later_optuna_is_not_to_be_deleted(tmp_path, monkeypatch):
    planted(tmp_path / "shared.db", "newer")
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'shared.db'}")
    with pytest.raises(StoreError, match="install a later one") as raised:
        export(os.environ["OPTUNA_STORAGE"], SPACE, [])
    assert "delete" not in str(raised.value)


@pytest.fixture
def postgres(tmp_path):
    """A PostgreSQL server of our own on loopback, run by an unprivileged user."""
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'psycopg[binary]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    control = shutil.which("pg_ctl") or (str(found[-1]) if found else None)
    if control is None:
        pytest.skip("no PostgreSQL server: apt install postgresql")
    as_user = []
    if os.getuid() == 0:
        if not shutil.which("runuser") or "postgres" not in (u.pw_name for u in pwd.getpwall()):
            pytest.skip("PostgreSQL refuses to run as root and there is no user 'postgres'")
        as_user = ["runuser", "-u", "postgres", "--"]
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        if as_user:
            shutil.chown(folder, "postgres")
        free.close()
        data = f"{folder}/data"
        calls = {
            "init": ["initdb", "-o", "-A trust -U postgres --no-sync"],
            "start": ["-w", "-l", f"{folder}/log", "-o", f"-h 127.0.0.1 -p {port} -k {folder} -F"],
            "stop": ["-m", "immediate"],
        }

        def call(what):
            words = [what, *calls[what]] if what != "init" else calls[what]
            command = [*as_user, control, *words, "-D", data]
            subprocess.run(command, check=True, capture_output=True, cwd=folder)

        call("init")
        call("start")
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres", call
        call("stop")


def test_a_postgresql_server_takes_the_copy_also_after_a_restart(postgres, monkeypatch, tmp_path):
    uri, call = postgres
    monkeypatch.setenv("OPTUNA_STORAGE", uri)
    assert suggestions.storage_of(tmp_path) == uri
    check_copies(uri)
    trials = run("restarted", SearchRule(trials=2), 2)
    call("stop")
    with pytest.raises(StoreError, match="is behind"):
        export(uri, SPACE, trials[:1], "restarted")
    call("start")
    export(uri, SPACE, trials, "restarted")
    with suggestions._opened(uri) as database:
        assert len(optuna.load_study(study_name="restarted", storage=database).trials) == 2


# Start-up settings.


def spaces():
    """Return spaces of 1 to 8 dimensions, of every kind and scale."""
    kinds = [
        lambda: Real(-0.2, 2.0, default=0.1),
        lambda: Real(1e-6, 1.0, default=1e-3, log=True),
        lambda: Integer(2, 40, default=10),
        lambda: Integer(1, 64, default=8, log=True),
        lambda: Choice(("a", "b", "c"), default="b"),
        lambda: Real(0.0, 90.0, default=20.0),
        lambda: Real(0.01, 100.0, default=1.0, log=True),
        lambda: Choice((True, False), default=True),
    ]
    return {n: named(**{f"p{k}": kinds[k]() for k in range(n)}) for n in range(1, 9)}


def search_of(space, cell, rule, count, trials=()):
    trials = list(trials)
    while len(trials) < count:
        settings = suggestions.suggest(cell, rule, space, trials)
        number = len(trials)
        trials.append(TrialRecord(str(number), cell, number, settings, "done", 0.1 * number, []))
    return trials


def shares(space, trials):
    return np.array([[p.share(t.settings[n]) for n, p in space.items()] for t in trials])


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
@pytest.mark.parametrize("dimensions", range(1, 9))
def test_start_up_settings_differ_also_after_a_stop(sampler, dimensions):
    space, rule = spaces()[dimensions], SearchRule(trials=50, sampler=sampler, startup_trials=10)
    for cell in ("a", "b", "c"):
        trials = search_of(space, cell, rule, 10)
        assert trials[0].settings == defaults(space)
        assert len({place(space, trial.settings) for trial in trials}) == 10
        reals = [n for n, p in space.items() if isinstance(p, Real)]
        for name in reals:
            assert len({trial.settings[name] for trial in trials}) == 10
        for cut in (1, 4, 9):
            assert search_of(space, cell, rule, 10, trials[:cut]) == trials
    at_bounds = (shares(space, trials)[1:] < 1e-3).all(axis=1)
    assert not at_bounds.any(), "trials 1 to 4 once stood on every lower bound"


def on_pairs(points):
    """Return the mean discrepancy of the points seen on two axes at a time."""
    axes = list(itertools.combinations(range(points.shape[1]), 2)) or [(0,)]
    return np.mean([discrepancy(points[:, list(two)], method="L2-star") for two in axes])


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
@pytest.mark.parametrize("dimensions", range(1, 9))
def test_start_up_settings_fill_the_space_better_than_random_ones(sampler, dimensions):
    """Discrepancy: how far the share of points in a box may be from the box's volume.

    Measured at 16 points in all dimensions at once, and at the paper's 4 on pairs of axes: so few
    points fill no cube of eight dimensions, whatever their rule.
    """
    reals = (Real(1e-3, 10.0, default=1.0, log=k % 2 == 0) for k in range(dimensions))
    space = named(**{f"p{k}": real for k, real in enumerate(reals)})
    rule = SearchRule(trials=50, sampler=sampler, startup_trials=17)
    trials = [search_of(space, f"cell {k}", rule, 17)[1:] for k in range(20)]
    ours = [shares(space, some) for some in trials]
    rng = np.random.default_rng(dimensions)
    random = [rng.random((16, dimensions)) for _ in range(200)]
    whole = [np.mean([discrepancy(points) for points in many]) for many in (ours, random)]
    assert whole[0] < 0.6 * whole[1]
    first = [np.mean([on_pairs(points[:4]) for points in many]) for many in (ours, random)]
    assert first[0] < 0.85 * first[1]


def test_cells_start_at_other_points():
    space, rule = spaces()[3], SearchRule(trials=9, sampler="gp", startup_trials=5)
    starts = [search_of(space, cell, rule, 5)[1:] for cell in ("a", "b")]
    ours, theirs = ({place(space, t.settings) for t in start} for start in starts)
    assert not ours & theirs


# No setting twice.


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
@pytest.mark.parametrize("startup", [1, 50])
def test_a_small_space_is_tried_through_and_then_the_search_is_over(sampler, startup):
    rule = SearchRule(trials=50, sampler=sampler, startup_trials=startup)
    for space in (
        named(loss=Choice(("a", "b", "c"), default="b")),
        named(bins=Integer(2, 4, default=4), soft=Choice((True, False), default=True)),
        named(size=Integer(1, 5, default=1, log=True)),
    ):
        trials = search_of(space, "cell", rule, size(space))
        assert len({place(space, trial.settings) for trial in trials}) == size(space)
        with pytest.raises(InvalidInputError, match=f"all {size(space)} settings"):
            suggestions.suggest("cell", rule, space, trials)


def test_a_setting_is_not_tried_again_where_the_model_would_stay():
    """A noiseless parabola: the model wants its top again and again."""
    space = named(margin=Real(-0.2, 2.0, default=0.1))
    rule, trials = SearchRule(trials=13, sampler="gp", startup_trials=5), []
    while len(trials) < 13:
        settings = suggestions.suggest("cell", rule, space, trials)
        value = 0.4 - 0.1 * (settings["margin"] - 0.7) ** 2
        number = len(trials)
        trials.append(TrialRecord(str(number), "cell", number, settings, "done", value, []))
    margins = [trial.settings["margin"] for trial in trials]
    assert len({space["margin"].part(margin) for margin in margins}) == 13
    assert sum(abs(margin - 0.7) < 0.15 for margin in margins[7:]) >= 4, "it models"


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_search_whose_trials_all_failed_goes_on(sampler):
    rule, space = SearchRule(trials=9, sampler=sampler, startup_trials=2), spaces()[4]
    trials = []
    for number in range(5):
        settings = suggestions.suggest("cell", rule, space, trials)
        trials.append(TrialRecord(str(number), "cell", number, settings, "failed", 0.0, []))
    assert len({place(space, trial.settings) for trial in trials}) == 5


def trial(number, value, status="done"):
    return TrialRecord(str(number), "c", number, {}, status, value, [])


def test_choice_takes_the_best_and_the_earliest_among_equals():
    assert choose([trial(0, 0.2), trial(1, 0.5), trial(2, 0.5)]).number == 1
    assert choose([trial(0, 0.0, "failed"), trial(1, 0.0)]).number == 1
    assert choose([trial(0, 0.9, "failed")]) is None


def test_only_a_strictly_better_validation_counts():
    rows = [{"map_at_r": v} for v in (0.1, 0.3, 0.3)]
    assert [improves(rows[:n], "map_at_r") for n in (1, 2, 3)] == [True, True, False]


def test_equal_cells_of_two_folders_have_names_of_their_own_in_a_shared_storage(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    assert name_in_storage(tmp_path / "a", "toy/ms", "abc") == "toy/ms [abc]"
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///shared.db")
    names = [name_in_storage(tmp_path / n, "toy/ms", "abc") for n in "abab"]
    assert names[:2] == names[2:]
    assert names[0] != names[1]
