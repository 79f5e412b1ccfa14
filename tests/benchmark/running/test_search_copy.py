"""Optuna's copy of the searches: whatever it lacked, the same command run again makes good."""

import sqlite3

import optuna
import pytest

from benchmark.running import search_copy
from benchmark.study.suggestions import storage_of
from tests.made_engine import SPACE, MadeEngine, go_on, lay_out
from tests.running import truth


@pytest.fixture(autouse=True)
def _own_storage(monkeypatch):
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)


def mended(study):
    said = []
    search_copy.mend(study, list(study.all_cells), lambda _: SPACE, said.append)
    return said


def copied(study):
    """Return the values of the trials in Optuna's database, by the names of the searches."""
    storage = optuna.storages.RDBStorage(storage_of(study.out))
    names = optuna.get_all_study_names(storage)
    found = {n: optuna.load_study(study_name=n, storage=storage) for n in names}
    return {name: [trial.value for trial in each.trials] for name, each in found.items()}


def values(study):
    return [[trial.value for trial in study.trials(cell)] for cell in study.all_cells]


def test_a_copy_that_is_whole_is_left_alone(tmp_path):
    study = lay_out(tmp_path / "out", ("one", "two"))
    go_on(study, MadeEngine(), copies_from=0)
    assert sorted(copied(study).values()) == sorted(values(study))
    assert mended(study) == []
    assert not (study.out / search_copy.FILE).exists()


def test_a_database_of_another_version_costs_the_copy_and_is_mended_as_said(tmp_path):
    study = lay_out(tmp_path / "out", ("one", "two"))
    optuna.storages.RDBStorage(storage_of(study.out)).engine.dispose()
    with sqlite3.connect(study.out / "search.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    printed = go_on(study, MadeEngine(), copies_from=0)
    (line,) = [line for line in printed.splitlines() if "Optuna's database" in line]
    assert "delete search.db" in line
    assert line.endswith(search_copy.AGAIN)
    (again,) = mended(study)
    assert "delete search.db" in again
    before = truth(study.out)
    (study.out / "search.db").unlink()
    assert mended(study) == ["2 search(es) copied to Optuna's database, which lacked them"]
    assert sorted(copied(study).values()) == sorted(values(study))
    assert truth(study.out) == before
    assert mended(study) == []


def test_what_was_missed_while_the_database_was_away_is_copied_later(tmp_path, monkeypatch):
    study = lay_out(tmp_path / "out", ("one", "two"))
    there = f"sqlite:///{tmp_path / 'storage' / 'all.db'}"
    monkeypatch.setenv("OPTUNA_STORAGE", there)
    go_on(study, MadeEngine(), copies_from=0)
    assert len(search_copy.behind(study, study.all_cells)) == 2
    (tmp_path / "storage").mkdir()
    assert len(mended(study)) == 1
    assert sorted(copied(study).values()) == sorted(values(study))
    assert search_copy.behind(study, study.all_cells) == []


class KilledError(BaseException):
    """Like a kill: nothing of ours handles it."""


def test_a_kill_between_the_last_trial_and_its_copy_is_mended(tmp_path, monkeypatch):
    study, write = lay_out(tmp_path / "out", ("one",)), search_copy.write
    last = study.trials_asked(study.cells[0])

    def kill(study, cell, space, trials):
        if len(trials) == last:
            raise KilledError
        write(study, cell, space, trials)

    monkeypatch.setattr(search_copy, "write", kill)
    with pytest.raises(KilledError):
        go_on(study, MadeEngine(), copies_from=0)
    monkeypatch.undo()
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    go_on(study, MadeEngine())
    assert mended(study) == ["1 search(es) copied to Optuna's database, which lacked them"]
    assert list(copied(study).values()) == values(study)
    assert len(values(study)[0]) == last
    assert mended(study) == []


def held(study):
    """Return the searches in Optuna's database, by method."""
    storage = optuna.storages.RDBStorage(storage_of(study.out))
    names = optuna.get_all_study_names(storage)
    found = [optuna.load_study(study_name=n, storage=storage) for n in names]
    return {each.user_attrs.get("method"): each for each in found}


def test_the_dashboard_is_told_what_a_search_is_and_what_it_chose(tmp_path):
    study = lay_out(tmp_path / "out", ("one",))
    go_on(study, MadeEngine(), copies_from=0)
    ((_, search),) = held(study).items()
    assert search.metric_names == ["validation_map_at_r"]
    assert search.user_attrs == {
        "dataset": "toy", "trunk": "tiny", "recipe": "adam", "method": "one", "search": 0,
        "protocol": "toy", "protocol_version": study.protocol.version,
        "rules_hash": study.protocol.rules_hash(), "chosen_trial": search.best_trial.number,
    }  # fmt: skip


def test_a_finished_study_reaches_another_storage_and_comes_back(tmp_path, monkeypatch):
    study = lay_out(tmp_path / "out", ("one", "two"))
    go_on(study, MadeEngine(), copies_from=0)
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'another.db'}")
    assert mended(study) == ["2 search(es) copied to Optuna's database, which lacked them"]
    assert sorted(copied(study).values()) == sorted(values(study))
    assert mended(study) == []
    monkeypatch.delenv("OPTUNA_STORAGE")
    assert len(mended(study)) == 1
    assert len(copied(study)) == 2


def test_a_storage_that_is_away_is_said_and_its_password_is_written_nowhere(tmp_path, monkeypatch):
    study = lay_out(tmp_path / "out", ("one", "two"))
    go_on(study, MadeEngine(), copies_from=0)
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql+psycopg://me:secret@127.0.0.1:1/x")
    for _ in range(2):
        (line,) = mended(study)
        assert "127.0.0.1:1/x is behind" in line
    files = [path for path in study.out.rglob("*") if path.is_file()]
    assert not any(b"secret" in path.read_bytes() for path in files)
    assert len(search_copy.behind(study, study.all_cells)) == 2


def test_one_search_written_to_a_new_storage_leaves_the_others_behind(tmp_path, monkeypatch):
    study = lay_out(tmp_path / "out", ("one", "two"))
    go_on(study, MadeEngine(), copies_from=0)
    (study.out / "search.db").unlink()
    one, two = study.all_cells
    search_copy.write(study, one, SPACE, study.trials(one))
    assert search_copy.behind(study, study.all_cells) == [two]


def test_what_an_earlier_version_wrote_is_brought_up_to_date_without_duplicates(tmp_path):
    study = lay_out(tmp_path / "out", ("one",))

    def fault(job):
        second = getattr(job, "stage", "") == "search" and job.number == 1
        return "error" if second else None

    go_on(study, MadeEngine(fault))
    (cell,) = study.all_cells
    trials = study.trials(cell)
    name = f"{cell.path} [{study.protocol.rules_hash()}]"
    old = optuna.create_study(study_name=name, storage=storage_of(study.out), direction="maximize")
    for trial in trials:  # as it was written: all COMPLETE, at the time of the export
        about = {"record": trial.id, "status": trial.status, "reason": trial.reason}
        old.add_trial(optuna.trial.create_trial(value=trial.value, user_attrs=about))
    assert len(mended(study)) == 1
    ((_, search),) = held(study).items()
    states = [trial.state.name for trial in search.trials]
    assert states == ["FAIL" if n == 1 else "COMPLETE" for n in range(len(trials))]
    assert search.trials[1].values is None
    assert search.trials[0].user_attrs["fold_1"] == trials[0].folds[1]
    assert mended(study) == []


def test_a_study_without_trials_needs_no_copy(tmp_path):
    assert mended(lay_out(tmp_path / "out")) == []
    assert not (tmp_path / "out" / "search.db").exists()
