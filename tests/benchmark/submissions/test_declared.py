"""What source files declare, read without running them: as running them says, or not at all."""

import sys
from pathlib import Path

import pytest

from benchmark.submissions.declared import Declarations, UnreadableError
from protocols.discovery import Registry
from protocols.space import described

ROOT = Path(__file__).parent.parent.parent.parent
REGISTRY = Registry()


def here(path):
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.is_file() else None


def with_file(source):
    """Return the checkout's declarations with one more method."""
    return Declarations(lambda path: source if path == "protocols/methods/x.py" else here(path))


@pytest.mark.parametrize("bounds", ["wide", "narrow"])
def test_every_shipped_method_declares_what_its_class_has(bounds):
    read = Declarations(here)
    for name in REGISTRY.names("method"):
        for dataset in ("emoji", "cub200", "sop"):
            expected = described(REGISTRY.load("method", name).space(dataset, bounds))
            found = read.space(f"protocols/methods/{name}.py", dataset, bounds)
            assert described(found) == expected, (name, dataset)


def test_every_shipped_recipe_declares_what_it_is():
    read = Declarations(here)
    for name in REGISTRY.names("recipe"):
        found = read.recipe(f"protocols/recipes/{name}.py")
        expected = REGISTRY.load("recipe", name).values()
        assert {k: v for k, v in found.items() if k in expected or v is not None} == expected


HEAD = """
from protocols.method import Method
from protocols.space import Real
"""
X = "class X(Method):\n    "


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os\n" + X + "a = Real(0, 1, default=float(os.environ['A']))", "is not plain"),
        (X + "for n in 'ab':\n        vars()[n] = Real(0, 1, default=0)", "decides what it"),
        (X + "@classmethod\n    def space(cls, dataset, bounds): ...", "computes its search space"),
        ("A = B\nB = A\n" + X + "a = Real(0, 1, default=A)", "names that stand for names"),
        (X + "a = Real(0, 1, default=2)", "lies outside its bounds"),
        (X + "a = Real(0, 9 ** 9 ** 9, default=2)", "is not plain"),
        (X + "a = Real(0, 'a' * 10 ** 9, default=2)", "no number"),
        (X + "pass\nclass Y(Method):\n    pass", "2 methods"),
        ("def f(:", "does not parse"),
    ],
)
def test_what_is_not_plain_is_said_and_never_run(source, said):
    text = source if source.startswith("def") else HEAD + source
    with pytest.raises(UnreadableError, match=said):
        with_file(text).space("protocols/methods/x.py", "emoji", "wide")


def test_nothing_of_the_file_is_run(tmp_path):
    mark = tmp_path / "ran"
    source = f"open({str(mark)!r}, 'w')\n{HEAD}\n{X}a = Real(0, 1, default=0.5)"
    found = with_file(source).space("protocols/methods/x.py", "emoji", "wide")
    assert described(found)["a"]["default"] == 0.5
    assert not mark.exists()
    assert "protocols.methods.x" not in sys.modules
