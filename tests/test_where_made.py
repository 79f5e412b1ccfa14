"""CONTRIBUTING's table of where the report's numbers are made names functions that exist."""

import ast
import re

import pytest

from tests.drawing import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| `(\S+\.py)` \| `(\w+)` \|$", TEXT, re.MULTILINE)


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("number", "path", "function"), ROWS)
def test_the_function_is_there(number: str, path: str, function: str) -> None:
    assert (ROOT / path).is_file(), f"{number}: no file {path}"
    assert function in functions(path), f"{number}: no function {function} in {path}"


def test_twelve_numbers_at_least_have_a_line() -> None:
    assert len(ROWS) >= 12
    named = re.findall(r"`((?:benchmark|protocols)/\S+\.py)`", TEXT.split("## Where is")[1])
    assert all((ROOT / path).is_file() for path in named), named
