"""What to cite for a study: the papers of its methods and datasets, from ``references.bib``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import protocols
from benchmark.study.datasets import identity
from benchmark.study.folder import Study

FILE = Path(protocols.__file__).with_name("references.bib")
EVERY = "every study"
_ENTRY = re.compile(r"^@(\w+)\{([\w-]+),\n(.*?)\n\}$", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.MULTILINE)
_USED_BY = "used_by"
# What BibTeX writes for letters that its own alphabet lacks.
_ACCENTS = {
    '{\\"a}': "ä",
    '{\\"o}': "ö",
    '{\\"u}': "ü",
    "{\\'e}": "é",
    "{\\'i}": "í",
    "{\\v{r}}": "ř",
}


@dataclass(frozen=True)
class Source:
    """One paper.

    Attributes:
        key: by which LaTeX cites it.
        fields: its BibTeX fields, without ``used_by``.
        kind: of BibTeX entry.
        used_by: methods and datasets that are from it, or ``every study``.
    """

    key: str
    kind: str
    fields: dict[str, str]
    used_by: frozenset[str]

    @property
    def bibtex(self) -> str:
        """Return the entry."""
        lines = [f"  {name} = {{{value}}}" for name, value in self.fields.items()]
        return f"@{self.kind}{{{self.key},\n" + ",\n".join(lines) + "\n}\n"

    @property
    def words(self) -> str:
        """Return authors, title, place and year as one line of text."""
        fields = self.fields
        names = [" ".join(reversed(a.split(", ", 1))) for a in fields["author"].split(" and ")]
        where = next(
            (fields[k] for k in ("booktitle", "journal", "institution") if k in fields), ""
        )
        arxiv = f"arXiv:{fields['eprint']}" if "eprint" in fields else ""
        parts = (f"{', '.join(names)}: {fields['title']}", where, fields["year"], arxiv)
        return _plain(". ".join(part for part in parts if part))


@cache
def sources() -> tuple[Source, ...]:
    """Return all papers, in the file's order."""
    found = []
    for kind, key, body in _ENTRY.findall(FILE.read_text(encoding="utf-8")):
        fields = dict(_FIELD.findall(body))
        names = frozenset(name.strip() for name in fields.pop(_USED_BY).split(","))
        found.append(Source(key, kind, fields, names))
    return tuple(found)


def keys_of(name: str) -> list[str]:
    """Return the keys of the papers that a method or dataset is from; none for one's own.

    For :data:`EVERY` those that every study cites.
    """
    return [source.key for source in sources() if name in source.used_by]


def cited(study: Study) -> list[Source]:
    """Return the papers of the protocol, the methods and the datasets of ``study``.

    What is not from a paper, such as a plugin or images of one's own, has none.
    """
    used = {EVERY} | {cell.method for cell in study.cells}
    used |= {identity(cell.dataset) for cell in study.cells}
    return [source for source in sources() if source.used_by & used]


def to_bibtex(study: Study) -> bytes:
    """Return the entries of what a study uses as a file for BibTeX."""
    return "\n".join(source.bibtex for source in cited(study)).encode()


def _plain(text: str) -> str:
    for latex, letter in _ACCENTS.items():
        text = text.replace(latex, letter)
    return text.replace("{", "").replace("}", "")
