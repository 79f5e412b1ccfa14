"""The README beside the folder of results: in it the first table of a study, kept as its rows are.

Between the lines ``<!-- findings of results/box: made by `verify --rebuild` -->`` and ``<!-- end
of findings -->`` stand the first sentence and table of what protocol ``box`` found in the folder
``results``. A README has any number of such blocks, of its own folder and of others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from benchmark.submissions import bounds
from benchmark.submissions.findings import page
from benchmark.submissions.findings.studies import Study
from protocols.errors import InvalidInputError

README = "README.md"
_END = "<!-- end of findings -->"
_BEGIN = re.compile(r"<!-- findings of ([\w.-]+)/([\w.-]+): made by `verify --rebuild` -->")
_MAX = 1 << 20  # bytes
Problem = tuple[str, str]  # message, path below the results folder


def lines_of(results: Path, protocol: str) -> tuple[str, str]:
    """Return the lines between which a study of ``results`` stands."""
    name = results.resolve().name
    return f"<!-- findings of {name}/{protocol}: made by `verify --rebuild` -->", _END


def first_of(studies: Sequence[Study]) -> Study:
    """Return which of a protocol's studies stands there: with its own trunk and recipe, if any."""
    return min(
        studies,
        key=lambda s: ((s.trunk, s.recipe) != (s.protocol.trunk, s.protocol.recipe), -len(s.whole)),
    )


def files(results: Path, studies: Mapping[str, Study]) -> dict[Path, bytes]:
    """Return the README beside ``results`` as it must be; nothing if it has no block of a study.

    Args:
        results: the folder.
        studies: by protocol.
    """
    path = results.resolve().parent / README
    text, has_own = text_of(path), False
    for name, study in studies.items():
        made = with_block(text, *lines_of(results, name), page.front(study))
        if made is not None:
            text, has_own = made, True
    return {path: text.encode()} if has_own else {}


def with_block(text: str, begin: str, end: str, block: str) -> str | None:
    """Return a text with what stands between two lines replaced; None if it has not both.

    A block that has lost its end must not swallow the next one up to that one's.
    """
    head, begun, rest = text.partition(begin)
    inside, ended, tail = rest.partition(end)
    if not begun or not ended or _BEGIN.search(inside):
        return None
    return f"{head}{begin}\n\n{block}\n{end}{tail}"


def faults(results: Path, protocols: Collection[str]) -> Iterator[Problem]:
    """Yield blocks of this folder that no rows make, and those without an end.

    Args:
        results: the folder.
        protocols: of which it has a study.
    """
    path = results.resolve().parent / README
    where = f"../{README}"
    if fault := readme_fault(path):
        yield fault, where
    text = text_of(path)
    for found in _BEGIN.finditer(text):
        folder, name = found.groups()
        if folder != results.resolve().name:
            continue
        inside, ended, _ = text[found.end() :].partition(_END)
        if not ended or _BEGIN.search(inside):
            yield f"findings of {folder}/{name} without the line {_END}", where
        elif name not in protocols:
            yield f"no rows make findings of {folder}/{name}: remove the block", where


def readme_fault(path: Path) -> str:
    """Return why a README cannot be read, empty where it can or is not there."""
    try:
        bounds.content(path, limit=_MAX).decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start}"
    except (OSError, InvalidInputError) as error:
        return str(error)
    return ""


def text_of(path: Path) -> str:
    """Return a README's text; empty where it is not there or cannot be read."""
    return "" if readme_fault(path) or not path.is_file() else path.read_bytes().decode("utf-8")
