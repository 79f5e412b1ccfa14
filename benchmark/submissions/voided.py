"""Rows that a later fix has made void: by rule, from the digests that a row carries.

A mistake that is found in a method, a trunk, a dataset or a protocol makes every row wrong that
was made with it. ``protocols/voided.toml`` lists their digests once; nobody marks rows by hand.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

import protocols
from benchmark.submissions.fields import Data, GridName, Text
from benchmark.submissions.schema import Cell
from protocols.errors import InvalidInputError

FILE = Path(protocols.__file__).with_name("voided.toml")
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{12}([0-9a-f]{52})?$")]


class Void(Data):
    """One entry: what was wrong, by digest, since when and why.

    Attributes:
        what: which of a row's digests are meant.
        name: of the method, trunk, dataset or protocol.
        digests: 12 hex digits of code or rules, 64 of a dataset.
        since: the day on which it was found.
        why: one sentence.
    """

    what: Literal["method", "trunk", "dataset", "protocol"]
    name: GridName
    digests: Annotated[list[Digest], Field(min_length=1)]
    since: date
    why: Annotated[Text, Field(min_length=1)]

    def matches(self, cell: Cell) -> bool:
        """Return whether a row was made with what this entry is about."""
        return _digest_of(cell, self.what) in self.digests


class _File(Data):
    void: list[Void] = Field(default_factory=list)


def read_voids(path: Path = FILE) -> tuple[Void, ...]:
    """Return the entries, in the order in which they stand.

    Raises:
        InvalidInputError: the file does not read, or an entry lacks something.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInputError(f"{path}: {where}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} does not read: {error}") from error


def parse(text: str) -> tuple[Void, ...]:
    """Return the entries of a file's text; raise ValueError where it does not read."""
    return tuple(_File.model_validate(tomllib.loads(text)).void)


def void_of(cell: Cell | None, entries: Sequence[Void]) -> Void | None:
    """Return the first entry that makes a row void, None if none does."""
    return next((entry for entry in entries if cell and entry.matches(cell)), None)


def _digest_of(cell: Cell, what: str) -> str:
    if what == "protocol":
        return cell.protocol_hash
    made = cell.made_of
    return {
        "method": made.method_code,
        "trunk": made.trunk_code,
        "dataset": made.dataset_digest,
    }[what]
