"""Names of methods, datasets, trunks, recipes and protocols: what they may hold, how they show.

They stand in folders, tables, pages and commands of people who did not choose them. So a name
shows all that it is made of, reads as nothing but text, and differs from every other by more
than case or Unicode form, which some file systems and most readers cannot tell apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Printable to Python, and nothing to be seen: fillers of scripts, braille without a dot.
_UNSEEN = frozenset(map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0)))
_NAME = re.compile(r"[^\W_][\w.+-]{0,63}")
# Texts that spreadsheets and pandas read as a truth value or as a missing one.
_OTHER_TYPES = frozenset({"true", "false", "na", "n/a", "nan", "-nan", "null", "none", "<na>"})
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_OTHER_FORMS = re.compile(
    r"[+-]?(\d[\d_,]*\.?\d*|\.\d+)(e[+-]?\d+)?%?|[+-]?inf(inity)?|-?1\.#(ind|qnan)|#n/?a.*"
    r"|\d{1,4}([-/:.]\d{1,4}){1,2}"
    rf"|({_MONTHS})[a-z]*[- .]?\d{{1,4}}|\d{{1,2}}[- .]?({_MONTHS})[a-z]*"
)


def fault(name: str) -> str:
    """Return what is wrong with a name and what is expected, "" if nothing is."""
    if not _NAME.fullmatch(name):
        return (
            "expected letters, digits, and _ . + - between them, 64 at most, a letter or digit "
            "first"
        )
    if reads_otherwise(name):
        return "spreadsheets read it as a number, a date, a truth value or a missing one"
    return ""


def reads_otherwise(text: str) -> bool:
    """Return whether spreadsheets or pandas take ``text`` for something else than text."""
    plain = text.strip().lower()
    return not plain or plain in _OTHER_TYPES or _OTHER_FORMS.fullmatch(plain) is not None


def twins(name: str, known: Iterable[str]) -> list[str]:
    """Return those of ``known`` that differ from ``name`` by case or Unicode form alone."""
    return [other for other in known if other != name and _folded(other) == _folded(name)]


def one_line(text: str) -> str:
    """Return ``text`` as one line of signs that can be seen: all others stand as their escapes.

    These are line ends, controls, marks that turn the direction of writing, signs without width,
    unusual spaces, and bytes that are no text.
    """
    if text.isprintable() and _UNSEEN.isdisjoint(text):
        return text
    return "".join(
        c if c.isprintable() and c not in _UNSEEN else c.encode("unicode_escape").decode()
        for c in text
    )


def seen(value: object) -> object:
    """Return what a page shows for ``value``: of text every sign can be seen; lines stay.

    Text of a type of its own is markup, which was made of such text.
    """
    return "\n".join(map(one_line, value.split("\n"))) if type(value) is str else value


def to_field(text: str) -> str:
    """Return ``text`` for a field of a CSV file, where it is read as text and as nothing else.

    What a spreadsheet would run as a formula, and what it or pandas would read as a number, a
    date, a truth value or a missing one, stands behind an apostrophe, and so does what begins
    with one: without one apostrophe at its beginning every field is what it was. No text at all
    is an empty field, as what is missing.
    """
    plain = one_line(text)
    if not plain:
        return ""
    return f"'{plain}" if plain[:1] in tuple("=+-@'") or reads_otherwise(plain) else plain


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
