"""Words for own images, kept beside them: ``--name shoes`` makes ``--datasets shoes``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from protocols.discovery import Registry
from protocols.errors import InvalidInputError, StoreError

FILE = "names.json"
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def known(root: Path | None) -> dict[str, str]:
    """Return the words of a root with the dataset each stands for, as it was prepared.

    Raises:
        StoreError: the file is damaged.
    """
    if root is None or not (root / FILE).is_file():
        return {}
    path = root / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise ValueError("expected names with datasets")
    except (OSError, ValueError) as error:
        words = f"{path} is damaged ({error}). Remove it and prepare again with --name"
        raise StoreError(words) from error
    return found


def check(word: str, name: str, root: Path, registry: Registry) -> None:
    """Raise InvalidInputError unless ``word`` may stand for dataset ``name``."""
    if not _WORD.fullmatch(word):
        raise InvalidInputError(
            f"--name {word!r}: expected a letter, then letters, digits, _ and -, lower case"
        )
    if word in registry.names("dataset"):
        raise InvalidInputError(f"--name {word!r}: a dataset of that name ships; choose another")
    held = known(root).get(word)
    if held not in (None, absolute(name)):
        raise InvalidInputError(f"--name {word!r} stands for {held} already; choose another")


def keep(word: str, name: str, root: Path) -> None:
    """Write down that ``word`` stands for dataset ``name``."""
    text = json.dumps({**known(root), word: absolute(name)}, indent=1, sort_keys=True) + "\n"
    part = (root / FILE).with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(root / FILE)


def absolute(name: str) -> str:
    """Return a dataset's name with the whole path, the same wherever a command is run from."""
    stem, colon, argument = name.partition(":")
    return f"{stem}:{Path(argument).expanduser().resolve()}" if colon else name


def opened(name: str, root: Path | None) -> str:
    """Return the dataset that ``name`` stands for: itself, if it is no word of the root."""
    return known(root).get(name, name)


def word_of(name: str, root: Path | None) -> str | None:
    """Return the word that stands for a dataset, None if there is none."""
    return next((word for word, held in known(root).items() if held == absolute(name)), None)
