"""A study's findings as a Markdown file beside its rows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from benchmark.submissions.findings import said, screen, training
from benchmark.submissions.findings.parts import Part, parts
from benchmark.submissions.findings.places import Place, places
from benchmark.submissions.findings.studies import Study

FILE = "findings.md"
WIDTH = 96  # of sentences on another page
_MADE = "Made from the rows by `verify --rebuild`; `verify` checks that it says what they say."


def markdown(studies: Sequence[Study]) -> str:
    """Return the page of one protocol's studies, one for each trunk and recipe."""
    lines = [f"# What {studies[0].protocol.name} found", "", _MADE, ""]
    for study in studies:
        lines += _study(study)
    return "\n".join(lines).rstrip() + "\n"


def front(study: Study) -> str:
    """Return a study's first sentences and table, for a page that begins with them."""
    told = (said.found(study), said.left_out(study), training.went(study))
    sentences = " ".join(filter(None, told))
    return f"{textwrap.fill(sentences, WIDTH)}\n\n{_table(study, places(study))}"


def _table(study: Study, own: Sequence[Place]) -> str:
    return f"```text\n{screen.table(study, own)}\n```\n"


def _study(study: Study) -> Iterator[str]:
    own = places(study)
    yield f"## Trunk `{study.trunk}`, recipe `{study.recipe}`\n"
    yield f"{said.found(study)}\n"
    if left_out := said.left_out(study):
        yield f"{left_out}\n"
    if study.protocol.label:
        yield f"Caveat: {study.protocol.label}.\n"
    yield _table(study, own)
    for part in parts(study, own):
        yield from _part(part)


def _part(part: Part) -> Iterator[str]:
    yield f"### {part.heading}\n"
    if part.said:
        yield f"{part.said}\n"
    if not part.rows:
        return
    sides = ("---" if at < part.words else "--:" for at in range(len(part.header)))
    yield _row(part.header)
    yield f"|{'|'.join(sides)}|"
    yield from map(_row, part.rows)
    yield f"\n{part.note}\n" if part.note else ""


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", r"\|").replace("<", "&lt;") for cell in cells)
    return f"| {' | '.join(escaped)} |"
