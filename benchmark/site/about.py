"""What a method or dataset is, read from its source and never by running it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import protocols
from protocols.discovery import Registry
from protocols.errors import BenchmarkError

LICENCES = "LICENSES.md"
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class About:
    """A method or dataset in words.

    Attributes:
        summary: one line.
        text: further paragraphs of its documentation.
        paper: where its formula is from; empty where the source names none.
        link: the paper's address, empty where it names no arXiv number.
        file: its source below the checkout; empty for one that is not in this checkout.
        licence: of a dataset, the first paragraph of its licence file.
    """

    summary: str = ""
    text: tuple[str, ...] = ()
    paper: str = ""
    link: str = ""
    file: str = ""
    licence: str = ""


def about(kind: str, name: str, registry: Registry) -> About:
    """Return what the source of a method or dataset says; nothing for one that is not here."""
    try:
        path = registry.source(kind, name)
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (BenchmarkError, OSError, SyntaxError, ValueError):
        return About(summary="Not in this checkout: the row names the commit that has it.")
    documents = [ast.get_docstring(tree) or ""]
    documents += [ast.get_docstring(node) or "" for node in _classes(tree) if _paper(node)]
    paragraphs = [" ".join(part.split()) for text in documents for part in text.split("\n\n")]
    told = [part for part in paragraphs if part and not part.startswith(("Args:", "Attributes:"))]
    paper = next((found for node in _classes(tree) if (found := _paper(node))), "")
    number = _ARXIV.search(paper)
    return About(
        summary=told[0] if told else "",
        text=tuple(dict.fromkeys(told[1:])),
        paper=paper,
        link=f"https://arxiv.org/abs/{number[1]}" if number else "",
        file=_below_checkout(path),
        licence=_licence(path) if kind == "dataset" else "",
    )


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def _paper(node: ast.ClassDef) -> str:
    """Return the string that a class gives as ``paper``, empty without one."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            if "paper" in names and isinstance(statement.value.value, str):
                return statement.value.value
    return ""


def _below_checkout(path: Path) -> str:
    root = Path(protocols.__file__).resolve().parents[1]
    resolved = path.resolve()
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else ""


def _licence(path: Path) -> str:
    """Return the first paragraph below the title of the licence file beside a dataset."""
    place = path.parent / LICENCES
    if path.name != "__init__.py" or not place.is_file():
        return ""
    text = place.read_text(encoding="utf-8")
    parts = [" ".join(part.split()) for part in text.split("\n\n") if not part.startswith("#")]
    return parts[0] if parts else ""
