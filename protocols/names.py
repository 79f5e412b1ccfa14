"""Names of methods, datasets, trunks, recipes and protocols: what they may hold.

They stand in folders, tables, pages and commands of people who did not choose them. So a name
shows all that it is made of, reads as nothing but text, and differs from every other by more
than case or Unicode form, which some file systems and most readers cannot tell apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_NAME = re.compile(r"[^\W_][\w.+-]{0,63}")
# Texts that spreadsheets and pandas read as a truth value or as a missing one.
_OTHER_TYPES = frozenset({"true", "false", "na", "n/a", "nan", "-nan", "null", "none", "<na>"})
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_OTHER_FORMS = re.compile(
    r"[+-]?(\d[\d_,]*\.?\d*|\.\d+)(e[+-]?\d+)?%?|[+-]?inf(inity)?|-?1\.#(ind|qnan)|#n/?a.*"
    rf"|\d{{1,4}}([-/:.]\d{{1,4}}){{1,2}}|({_MONTHS})[a-z]*[- .]?\d{{1,4}}|\d{{1,2}}[- .]?({_MONTHS})"
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


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
