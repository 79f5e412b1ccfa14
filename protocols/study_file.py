"""Study files: the names and rules of a study in TOML."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from protocols.errors import InvalidInputError
from protocols.knobs import KNOBS, unknown_key

MAX_BYTES = 1 << 20
# What a file says about the study besides its rules: key -> what it is, in one line.
NAMES = {
    "methods": "rows to compare",
    "datasets": "prepared names, folder:PATH or csv:FILE; paths as on the command line",
    "trunks": "networks below every method",
    "recipes": "optimiser and schedule",
    "plugin": "files that hold methods, protocols, recipes or trunks",
    "weights": "of the trunk: a file, a name it knows, or none",
    "root": "where prepared datasets lie",
    "out": "output folder",
    "search_repeats": "searches of each cell",
    "oracle_gap": "also test at every validation of final runs",
    "match_cost": "the same seconds for every method, if the protocol says how many",
}
_LISTS = ("methods", "datasets", "trunks", "recipes")
_PATHS = ("root", "out")
_FLAGS = ("oracle_gap", "match_cost")


def read_study_file(path: Path) -> dict[str, Any]:
    """Return what the study file says, by the option it stands for.

    Changes of the protocol stand under ``file_changes``: key, value, and where it was read.

    Raises:
        InvalidInputError: no such file, no TOML, a key that does not exist or a value of another
            type; the message names the file, the line and the key.
    """
    text = _text(path)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    found: dict[str, Any] = {}
    changes: list[tuple[str, object, str]] = []
    for key, value in _flat(content):
        where = f"{path}, line {line_of(text, key)}: "
        if key == "protocol" or key in NAMES:
            found[key] = _option(key, value, where)
        elif key.partition(".")[0] in ("method", *_heads()):
            changes.append((key, value, where))
        else:
            raise InvalidInputError(f"{where}{unknown_key(key, ('protocol', *NAMES))}")
    return {**found, "file_changes": tuple(changes)}


def typed_value(text: str) -> object:
    """Return a value as it is typed behind ``KEY=``: TOML where it is some, else the text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def line_of(text: str, key: str) -> int:
    """Return the line, from 1, at which dotted ``key`` gets its value in TOML ``text``.

    The lines up to some point are TOML themselves wherever a value is complete. The key begins
    behind the last such point that does not hold it yet.
    """
    lines, whole = text.splitlines(), 0
    for end in range(1, len(lines) + 1):
        try:
            content = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # inside a value of several lines
        if _holds(content, key):
            begun = (n for n in range(whole, end) if lines[n].strip()[:1] not in ("", "#"))
            return next(begun) + 1
        whole = end
    raise KeyError(key)


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise InvalidInputError(
                f"study file {str(path)!r}: no such file. python -m benchmark new-study "
                f"{shlex.quote(str(path))} writes one"
            )
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInputError(f"study file {str(path)!r} is larger than 1 MiB")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"study file {str(path)!r}: expected UTF-8 text") from error
    except OSError as error:
        raise InvalidInputError(f"study file {str(path)!r}: {error.strerror}") from error


def _flat(table: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested tables under its dotted key; an empty table has none."""
    for name, value in table.items():
        key = f"{head}.{name}" if head else name
        if isinstance(value, Mapping):
            yield from _flat(value, key)
        else:
            yield key, value


def _holds(table: Any, key: str) -> bool:
    """Return whether nested tables have ``key``, whose parts may hold dots themselves."""
    return any(found == key for found, _ in _flat(table))


def _option(key: str, value: Any, where: str) -> Any:
    """Return a name of the study as its option holds it."""
    if key in _LISTS or key == "plugin":
        given = [value] if isinstance(value, str) else value
        if isinstance(given, list) and given and all(isinstance(v, str) and v for v in given):
            return [Path(v) for v in given] if key == "plugin" else tuple(dict.fromkeys(given))
        raise InvalidInputError(f"{where}{key}: met {value!r}, expected a list of names")
    if key in _FLAGS:
        if isinstance(value, bool):
            return value
        raise InvalidInputError(f"{where}{key}: met {value!r}, expected true or false")
    if key == "search_repeats":
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        raise InvalidInputError(f"{where}{key}: met {value!r}, expected a whole number from 1 on")
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{where}{key}: met {value!r}, expected a text in quotes")
    return Path(value) if key in _PATHS else value


def _heads() -> set[str]:
    return {key.partition(".")[0] for key in KNOBS}
