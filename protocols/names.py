"""Names of methods, datasets, trunks, recipes and protocols: what they may hold, how they show.

They stand in folders, tables, pages and commands of people who did not choose them. So a name
shows all that it is made of, reads as nothing but text, and differs from every other by more
than case or Unicode form, which some file systems and most readers cannot tell apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby

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
# Letters of other scripts, and a few of Latin, by the plain letter that a reader takes them for.
# Upper and lower case stand apart: a Greek capital eta looks like H, a small one like n.
_LOOKALIKES = {
    "A": "\u0391\u0410\u13aa", "B": "\u0392\u0412\u13f4", "C": "\u03f9\u0421\u13df",
    "E": "\u0395\u0415\u13ac", "F": "\u03dc", "H": "\u0397\u041d\u13bb",
    "J": "\u037f\u0408\u13ab", "K": "\u039a\u041a\u212a\u13e6", "M": "\u039c\u041c\u13b7",
    "N": "\u039d", "P": "\u03a1\u0420\u13e2", "Q": "\u051a", "S": "\u0405\u13da",
    "T": "\u03a4\u0422\u13a2", "V": "\u0474\u13d9", "W": "\u051c\u13b3",
    "X": "\u03a7\u0425", "Y": "\u03a5\u04ae\u0423\u13a9", "Z": "\u0396\u13c3",
    "a": "\u0251\u03b1\u0430\u1d00", "b": "\u042c\u044c\u0432\u0299", "c": "\u03f2\u0441\u1d04",
    "d": "\u0501\u1d05", "e": "\u0435\u1d07", "g": "\u0261\u050d", "h": "\u043d\u04bb\u0570\u029c",
    "i": "\u0131\u03b9\u0456", "j": "\u03f3\u0458", "k": "\u03ba\u043a\u1d0b", "m": "\u043c\u1d0d",
    "n": "\u03b7\u0578\u0274", "o": "0O\u039f\u03bf\u03c3\u041e\u043e\u0555\u0585\u1d0f",
    "p": "\u03c1\u0440\u1d18", "q": "\u051b\u0566", "r": "\u0433\u0280", "s": "\u0455\ua731",
    "t": "\u03c4\u0442\u1d1b", "u": "\u03c5\u057d\u1d1c", "v": "\u03bd\u0475\u1d20",
    "w": "\u03c9\u051d\u1d21", "x": "\u03c7\u0445", "y": "\u03b3\u0443\u028f", "z": "\u1d22",
    "l": "1I\u0399\u0406\u04c0\u04cf\u13c6",
}  # fmt: skip
_PLAIN = str.maketrans({c: plain for plain, those in _LOOKALIKES.items() for c in those})
# Scripts that stand together within one word where people write so.
_TOGETHER = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})


def fault(name: str) -> str:
    """Return what is wrong with a name and what is expected, "" if nothing is."""
    if not _NAME.fullmatch(name):
        return (
            "expected letters, digits, and _ . + - between them, 64 at most, a letter or digit "
            "first"
        )
    if mixed := mixed_word(name):
        return mixed
    if reads_otherwise(name):
        return "spreadsheets read it as a number, a date, a truth value or a missing one"
    return ""


def reads_otherwise(text: str) -> bool:
    """Return whether spreadsheets or pandas take ``text`` for something else than text."""
    plain = text.strip().lower()
    return not plain or plain in _OTHER_TYPES or _OTHER_FORMS.fullmatch(plain) is not None


def twins(name: str, known: Iterable[str]) -> list[str]:
    """Return those of ``known`` that differ from ``name`` by what readers cannot tell apart.

    That is case, Unicode form, or letters of another script that look the same.
    """
    return [other for other in known if other != name and alike(other, name)]


def alike(one: str, other: str) -> bool:
    """Return whether readers or file systems may take one name for the other."""
    return _folded(one) == _folded(other) or skeleton(one) == skeleton(other)


def skeleton(text: str) -> str:
    """Return ``text`` with each sign as the plain letter that it looks like, without case.

    Two texts with one skeleton look the same. Known are the look-alikes among Latin, Greek,
    Cyrillic and a few other letters, and whatever Unicode's compatibility form makes one: wide
    letters, those of formulas, ligatures.

    Source: the idea and the name are those of Unicode Technical Standard 39, section 4.
    """
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN)).translate(_PLAIN)
    plain = plain.casefold().translate(_PLAIN)
    return unicodedata.normalize("NFKD", plain)


def mixed_word(text: str) -> str:
    """Return which word of ``text`` has letters of several scripts, "" if none has.

    An honest word is of one script; a letter of another one is there to be taken for its own.
    """
    plain = (c for c in unicodedata.normalize("NFKC", text) if c not in _UNSEEN)
    kept = (c for c in plain if unicodedata.category(c) not in ("Mn", "Me", "Cf", "Lm"))
    for is_word, letters in groupby(kept, str.isalpha):
        word = "".join(letters)
        scripts = set(map(_script, word)) if is_word else set()
        if len(scripts - _TOGETHER) + bool(scripts & _TOGETHER) > 1:
            said = " and ".join(sorted(script.capitalize() for script in scripts))
            return f"letters of {said} in one word, {word!a}; expected one script in a word"
    return ""


def _script(letter: str) -> str:
    """Return the first word of a letter's name, which is its script's: LATIN, GREEK, CYRILLIC."""
    return unicodedata.name(letter, "unknown").split(maxsplit=1)[0]


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
