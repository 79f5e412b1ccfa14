"""What folders and lists of own images share: words for parts, the order of labels, notes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np

from protocols.datasets._official import Entry
from protocols.decoding import SUFFIXES
from protocols.errors import DataError, InvalidInputError
from protocols.partition import PARTS, check_parts, labels_of

LabelKind = Literal["text", "number"]
# Pictures that other programs read and this one does not, and files that are no pictures.
_OTHER_PICTURES = frozenset(
    (
        *(".avif", ".eps", ".exr", ".hdr", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jpe"),
        *(".jpf", ".jpx", ".jxl", ".jxr", ".pcx", ".psd", ".svg", ".tga"),
        # What cameras write, by maker.
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq"),
        *(".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw"),
        *(".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    )
)
_MISSING = frozenset(("", "na", "n/a", "nan", "none", "null", "-", "?"))
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
SUFFIX_WORDS = ", ".join(sorted(SUFFIXES))


@dataclass(frozen=True)
class Reading:
    """How own images are to be read where they allow two ways.

    Attributes:
        class_level: which folder on the way to an image is its class, from 1.
        labels: whether labels that look like numbers are texts or numbers.
        root: where prepared datasets lie, which are passed over where they lie among the images.
    """

    class_level: int | None = None
    labels: LabelKind | None = None
    root: Path | None = None


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
    numbers = _numbers(found)
    if kind == "number" and len(numbers) < len(found):
        others = [name for name in found if name not in numbers]
        raise DataError(f"--labels number: {others[0]!r} is none. Leave it out, or say text")
    if kind is None and (met := doubt(found)) is not None:
        remedies = {
            "twins": "Say --labels text (two) or --labels number (one)",
            "missing": "Say --labels text if it is a name, or remove those rows",
        }
        raise DataError(f"{met.question} {remedies[met.kind]}")
    if len(numbers) < len(found):
        return {name: (label, name) for label, name in enumerate(found)}
    if kind == "number":
        at = {value: label for label, value in enumerate(sorted(set(numbers.values())))}
        return {name: (at[value], _digits(value)) for name, value in numbers.items()}
    order = sorted(found, key=lambda name: (numbers[name], name))
    return {name: (label, name) for label, name in enumerate(order)}


@dataclass(frozen=True)
class Doubt:
    """Labels that can be understood in two ways.

    Attributes:
        kind: ``twins`` are two labels that are the same number, ``missing`` is a label that
            stands for none elsewhere.
        question: which labels, and what about them.
    """

    kind: Literal["twins", "missing"]
    question: str


def doubt(labels: Iterable[str]) -> Doubt | None:
    """Return what is to be asked about ``labels``, None where they have one reading."""
    found = sorted(set(labels))
    same: dict[Decimal, list[str]] = {}
    for name, value in _numbers(found).items():
        same.setdefault(value, []).append(name)
    for names in same.values():
        if len(names) > 1:
            return Doubt("twins", f"labels {names[0]!r} and {names[1]!r}: two classes or one?")
    for name in found:
        if name.lower() in _MISSING:
            asked = f"label {name!r}: the name of a class, or a label that is missing?"
            return Doubt("missing", asked)
    return None


def _numbers(names: Iterable[str]) -> dict[str, Decimal]:
    """Return the number behind each label that is one, exact however many digits it has."""
    return {name: Decimal(name) for name in names if _NUMBER.fullmatch(name)}


def _digits(value: Decimal) -> str:
    """Return a number with all its digits, and none that say nothing: 7 for 007 and 7.0."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def part_of(word: str) -> str:
    """Return the part that ``word`` means, whatever its case; empty for none.

    Raises:
        DataError: no part; the message gives the nearest one.
    """
    plain = word.strip().lower()
    if plain in (*PARTS, ""):
        return plain
    near = nearest_part(plain)
    hint = f" Did you mean {near!r}?" if near else ""
    raise DataError(f"part {word!r}: expected {', '.join(PARTS)} or nothing.{hint}")


def nearest_part(word: str) -> str | None:
    """Return the part that ``word`` resembles, None where it resembles none."""
    return next(iter(get_close_matches(word.strip().lower(), PARTS, n=1, cutoff=0.4)), None)


def check_copies(names: Sequence[str], parts: Sequence[str], sums: Sequence[str]) -> None:
    """Raise DataError where a query is the same file as a gallery image: it would find itself.

    Args:
        names: of the images, as the message is to call them.
        parts: their parts.
        sums: their checksums.
    """
    gallery = {
        found: name
        for name, part, found in zip(names, parts, sums, strict=True)
        if part == "gallery"
    }
    copies = [
        f"{name!r} is {gallery[found]!r}"
        for name, part, found in zip(names, parts, sums, strict=True)
        if part == "query" and found in gallery
    ]
    if copies:
        more = f" and {len(copies) - 3:,} more" if len(copies) > 3 else ""
        raise DataError(
            f"queries that are in the gallery too, the same file by its content, so they would "
            f"find themselves: {', '.join(copies[:3])}{more}. Remove each from one of the two"
        )


def checked(entries: list[Entry], where: str) -> list[Entry]:
    """Return the entries, or raise DataError if their classes or parts cannot make a study."""
    called: dict[str, int] = {}
    for entry in entries:
        if called.setdefault(entry.class_name, entry.label) != entry.label:
            raise DataError(
                f"{where}: two classes are called {entry.class_name!r}. Give each its own name"
            )
    parts = np.array([entry.part for entry in entries])
    if any(entry.part for entry in entries):
        labels = np.array([entry.label for entry in entries], np.int64)
        classes = int(labels.max()) + 1
        try:
            check_parts(labels_of(labels, classes, parts, "publisher", ""))
        except InvalidInputError as error:
            raise DataError(f"{where}: {error}") from error
    return entries


def alike(names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence on class names that read alike, which makes different classes of them."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[_composed(_composed(name).casefold())].append(name)
    met = [_both(*group[:2]) for group in groups.values() if len(group) > 1]
    if met:
        more = f" and {len(met) - 3:,} more" if len(met) > 3 else ""
        yield (
            f"{', '.join(met[:3])}{more} are two classes; they differ only in upper and lower case "
            "or in Unicode form. If they are one thing, write them alike and prepare again"
        )


def _both(one: str, other: str) -> str:
    """Return two names side by side, with escapes where they would look the same."""
    same = _composed(one) == _composed(other)
    return f"{one!a} and {other!a}" if same else f"{one!r} and {other!r}"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def passed_over(files: Iterable[str]) -> list[str]:
    """Return a sentence on those of ``files`` that are not read, by their endings."""
    endings = Counter(Path(name).suffix.lower() for name in files)
    bare = endings.pop("", 0)
    others = {e: n for e, n in endings.items() if e not in SUFFIXES}
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
    if bare:
        found.append(
            f"passed over {bare:,} without an ending, which says what a file is. If they are "
            "pictures, give them theirs, like .jpg or .png, to use them"
        )
    return found


def _counted(endings: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {e}" for e, n in sorted(endings.items(), key=lambda x: (-x[1], x[0])))
