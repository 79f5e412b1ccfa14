"""What folders and lists of own images share: words for parts, the order of labels, notes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np

from protocols.datasets._official import PASSED_OVER, Entry
from protocols.decoding import SUFFIXES
from protocols.errors import DataError, InvalidInputError
from protocols.partition import PARTS, check_parts, labels_of

LabelKind = Literal["text", "number"]
# Pictures that other programs read and this one does not, and files that are no pictures.
_OTHER_PICTURES = frozenset((".avif", ".heic", ".heif", ".jp2", ".jpe", ".jxl", ".svg", ".psd"))
_MISSING = frozenset(("", "na", "n/a", "nan", "none", "null", "-", "?"))
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
SUFFIX_WORDS = ", ".join(sorted(SUFFIXES))


@dataclass(frozen=True)
class Reading:
    """How own images are to be read where they allow two ways.

    Attributes:
        class_level: which folder on the way to an image is its class, from 1.
        labels: whether labels that look like numbers are texts or numbers.
    """

    class_level: int | None = None
    labels: LabelKind | None = None


AS_IS = Reading()


@dataclass(frozen=True)
class Own:
    """Own images as they were found, and what was noticed on the way, a sentence each."""

    entries: list[Entry]
    notes: tuple[str, ...] = ()


def numbered(names: Iterable[str], kind: LabelKind | None) -> dict[str, tuple[int, str]]:
    """Return the number and the name of the class behind each label.

    Labels that are all numbers are in the order of the numbers, others in that of their text.

    Raises:
        DataError: labels that may be the same number or no label at all, unless ``kind`` says
            what they are.
    """
    found = sorted(set(names))
    numbers = {name: float(name) for name in found if _NUMBER.fullmatch(name)}
    if kind == "number" and len(numbers) < len(found):
        others = [name for name in found if name not in numbers]
        raise DataError(f"--labels number: {others[0]!r} is none. Leave it out, or say text")
    if kind is None:
        _ask(found, numbers)
    if len(numbers) < len(found):
        return {name: (label, name) for label, name in enumerate(found)}
    if kind == "number":
        values = sorted(set(numbers.values()))
        return {name: (values.index(n), f"{n:g}") for name, n in numbers.items()}
    order = sorted(found, key=lambda name: (numbers[name], name))
    return {name: (label, name) for label, name in enumerate(order)}


def _ask(found: Sequence[str], numbers: Mapping[str, float]) -> None:
    """Raise DataError where labels can be understood in two ways."""
    same: dict[float, list[str]] = {}
    for name, value in numbers.items():
        same.setdefault(value, []).append(name)
    twins = next((names for names in same.values() if len(names) > 1), None)
    if twins:
        raise DataError(
            f"labels {twins[0]!r} and {twins[1]!r}: two classes or one? Say --labels text (two) or "
            "--labels number (one)"
        )
    missing = [name for name in found if name.lower() in _MISSING]
    if missing:
        raise DataError(
            f"label {missing[0]!r}: the name of a class, or a label that is missing? Say --labels "
            "text if it is a name, or remove those rows"
        )


def part_of(word: str) -> str:
    """Return the part that ``word`` means, whatever its case; empty for none.

    Raises:
        DataError: no part; the message gives the nearest one.
    """
    plain = word.strip().lower()
    if plain in (*PARTS, ""):
        return plain
    near = get_close_matches(plain, PARTS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise DataError(f"part {word!r}: expected {', '.join(PARTS)} or nothing.{hint}")


def checked(entries: list[Entry], where: str) -> list[Entry]:
    """Return the entries, or raise DataError if their parts cannot make a study."""
    parts = np.array([entry.part for entry in entries])
    if any(entry.part for entry in entries):
        labels = np.array([entry.label for entry in entries], np.int64)
        classes = int(labels.max()) + 1
        try:
            check_parts(labels_of(labels, classes, parts, "publisher", ""))
        except InvalidInputError as error:
            raise DataError(f"{where}: {error}") from error
    return entries


def passed_over(base: Path) -> list[str]:
    """Return a sentence on the files below ``base`` that are not read, by their endings."""
    endings: Counter[str] = Counter()
    for _, folders, names in os.walk(base, followlinks=False):
        folders[:] = [n for n in folders if not n.startswith(".") and n not in PASSED_OVER]
        endings.update(Path(name).suffix.lower() or "without ending" for name in names)
    others = {e: n for e, n in endings.items() if e not in SUFFIXES and not e.startswith("..")}
    pictures = {e: n for e, n in others.items() if e in _OTHER_PICTURES}
    found = []
    if pictures:
        found.append(
            f"passed over {_counted(pictures)}: pictures that are not read here. Save them as .jpg "
            "or .png to use them"
        )
    rest = {e: n for e, n in others.items() if e not in pictures}
    if rest:
        found.append(f"passed over {_counted(rest)}: no pictures")
    return found


def _counted(endings: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {e}" for e, n in sorted(endings.items(), key=lambda x: (-x[1], x[0])))
