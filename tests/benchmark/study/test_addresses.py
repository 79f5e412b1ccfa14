"""Addresses of databases name the file they were made of, whatever signs its path has."""

import random

import pytest
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, text

from benchmark.study.addresses import address_of, database_of, without_password

NAMES = ("a?b", "runs%20", "50%", "%3F", "a#b?c=d&e", "ä ;ö", "50%/in?/out", "a%%b", "x@y:z")


@pytest.mark.parametrize("name", NAMES)
def test_a_database_is_made_where_its_path_says(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    database = folder / "search.db"
    address = address_of(database)
    with create_engine(address).begin() as connection:
        connection.execute(text("CREATE TABLE there (a INTEGER)"))
    assert database.is_file()
    assert database_of(address) == database
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [database]


def test_paths_come_back_from_their_addresses(tmp_path):
    rng = random.Random(3)
    for _ in range(300):
        name = "".join(rng.choices("ab/?%#&=+@:; ä0123F", k=12))
        path = tmp_path / name.strip("/") / "mlflow.db"
        assert database_of(address_of(path)) == path


def test_plain_addresses_stay_as_scripts_know_them(tmp_path):
    assert address_of(tmp_path / "runs #2" / "a.db") == f"sqlite:///{tmp_path}/runs #2/a.db"
    assert database_of("sqlite:///a.db?timeout=20").name == "a.db"
    for other in ("http://a:1", "postgresql://a/b", "file:///a", "databricks"):
        assert database_of(other) is None


def test_optunas_migrations_take_a_quoted_address(tmp_path):
    (tmp_path / "50%?").mkdir()
    storage = RDBStorage(address_of(tmp_path / "50%?" / "search.db"))
    assert storage.get_current_version() == storage.get_head_version()
    storage.engine.dispose()


def test_passwords_are_not_shown():
    assert without_password("at http://me:secret@host/x") == "at http://…@host/x"
    told = without_password("postgresql://host/x?user=me&password=secret&sslmode=require")
    assert told == "postgresql://host/x?user=me&password=…&sslmode=require"
