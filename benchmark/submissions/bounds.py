"""Files of strangers, read within bounds: how large, how deep, how long a number may be.

Sizes and depths are looked at before anything is parsed, because a parser may take minutes or all
of the memory for a file of a few kilobytes. A link, a folder or a pipe in a file's place is not
opened.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from protocols.errors import InvalidInputError

LIMITS = {
    ".json": 64 << 10,
    ".jsonl": 512 << 10,
    ".toml": 16 << 10,
    ".npz": 4 << 20,
    ".sig": 8 << 10,
}
MAX_DEPTH = 12  # of brackets in a JSON file; a row's own go to 5
MAX_DIGITS = 18  # of a whole number, of which float and int64 hold every one
MAX_DOTS = 8  # in one TOML key: ours have none

_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]')
_STRINGS = re.compile(
    r'''"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|\#[^\n]*+'''
)
_DOTTED = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{MAX_DOTS}}}")


def content(path: Path, limit: int | None = None) -> bytes:
    """Return the bytes of a file.

    Args:
        path: the file.
        limit: of its size in bytes; None takes that of its suffix.

    Raises:
        InvalidInputError: it is no file, or larger than the limit.
        OSError: it cannot be read.
    """
    limit = LIMITS[path.suffix] if limit is None else limit
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInputError(f"{kind_of(found.st_mode)}; expected a file")
    if found.st_size > limit:
        raise InvalidInputError(f"{found.st_size} bytes; expected {limit} at most")
    # A file that is swapped for a pipe now would be waited for without O_NONBLOCK.
    flag = getattr(os, "O_NONBLOCK", 0)  # Windows has neither
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | flag)) as file:
        return file.read(limit + 1)[:limit]


def kind_of(mode: int) -> str:
    """Return what lies in a file's place, in words."""
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "no plain file"


def parse_json(text: bytes) -> Any:
    """Return what JSON holds.

    Raises:
        ValueError: it is no JSON, is nested too deep, or holds a number that is too long, NaN or
            infinite.
    """
    depth = 0
    for found in _BRACKETS.finditer(text):
        token = found[0]
        depth += (token in b"[{") - (token in b"]}")
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return json.loads(text, parse_int=_whole, parse_float=_real, parse_constant=_not_a_number)


def parse_toml(text: bytes) -> dict[str, Any]:
    """Return what TOML holds.

    Raises:
        ValueError: it is no TOML, or a key has too many parts.
    """
    decoded = text.decode("utf-8")
    if _DOTTED.search(_STRINGS.sub("s", decoded)):
        raise ValueError(f"a name of more than {MAX_DOTS} parts; expected one")
    return tomllib.loads(decoded)


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits; expected {MAX_DIGITS} at most")
    return int(digits)


def _real(digits: str) -> float:
    if len(digits) > 2 * MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits; expected {2 * MAX_DIGITS} at most")
    return float(digits)


def _not_a_number(word: str) -> float:
    raise ValueError(f"{word}; expected a number")
