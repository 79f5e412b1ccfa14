"""The notebook runs from its first cell to its last, and shows what it says."""

import json

import nbformat
import pytest
from nbclient import NotebookClient

from tests.drawing import ROOT

PATH = ROOT / "docs" / "benchmark.ipynb"


def shown(cells, words):
    """Return what the cells with ``words`` in their code showed, by kind."""
    (cell,) = [cell for cell in cells if words in cell.source]
    found = {}
    for output in cell.outputs:
        found |= output.get("data", {})
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))  # no kernel but this Python's
    book = nbformat.read(PATH, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(book, timeout=240, kernel_name="python3", resources=resources).execute()
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    for name in ("triplet", "ms", "untrained"):
        assert name in shown(cells, "study.summary")["text/html"]
        assert f"<!-- {name} -->" in shown(cells, "study.figure")["text/html"]
    assert "verdict" in shown(cells, "study.pairs")["text/html"]
    assert shown(cells, ".embed(paths)")["text/plain"] == "(8, 64)"
    cosines = shown(cells, "unit @ unit.T")["text/html"]
    assert cosines.count("1.00") >= 8


def test_what_is_committed_shows_nothing_that_could_be_old():
    book = json.loads(PATH.read_text(encoding="utf-8"))
    for cell in book["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert book["metadata"]["kernelspec"]["name"] == "python3"


def test_readme_leads_to_it():
    assert f"]({PATH.relative_to(ROOT)})" in (ROOT / "README.md").read_text(encoding="utf-8")
