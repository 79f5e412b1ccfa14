"""Addresses of servers and databases: as they may be printed, and of files in a folder."""

from __future__ import annotations

import re
from pathlib import Path

from protocols.errors import StoreError

_ODD = re.compile("[?%]")  # what means something else in an address: options, and a code


def without_password(text: str) -> str:
    """Return an address, or a text that holds some, without user names and passwords."""
    text = re.sub(r"//[^/@\s]*@", "//…@", text)
    return re.sub(r"(?i)([?&]passw(?:or)?d=)[^&\s]*", r"\1…", text)


def address_of(database: Path) -> str:
    """Return the address of a SQLite database.

    Where the path has signs that mean something else there, they are quoted and the driver is
    named: for addresses that begin with ``sqlite:///`` MLflow makes the folder as it is spelt,
    quoted, and would leave it beside the real one.

    Raises:
        StoreError: SQLAlchemy before 2.1 does not take quoted paths, so it cannot say this one.
    """
    if not _ODD.search(str(database)):
        return f"sqlite:///{database}"
    from sqlalchemy.engine import URL, make_url  # only now: it takes a fifth of a second

    address = URL.create("sqlite+pysqlite", database=str(database)).render_as_string()
    if make_url(address).database != str(database):
        raise StoreError(
            f"{str(database)!r}: ? and % in a path mean something else in the address of a "
            "database. Choose another --out, or install SQLAlchemy 2.1 or later"
        )
    return address


def database_of(address: str) -> Path | None:
    """Return the file of a SQLite database, None for any other address."""
    if not re.match(r"sqlite(\+pysqlite)?:///", address):
        return None
    if not _ODD.search(address):
        return Path(address.partition(":///")[2])
    from sqlalchemy.engine import make_url

    return Path(make_url(address).database or "")
