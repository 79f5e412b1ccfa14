"""A finished toy study and a valid results folder made of it, once for all tests."""

import shutil

import pytest

from benchmark.cli import main
from tests.benchmark import rows


@pytest.fixture(scope="session")
def toy_study(tmp_path_factory):
    """The output folder of a finished study: triplet, ms, untrained."""
    out = tmp_path_factory.mktemp("study") / "out"
    rows.run(out, "--methods", "triplet,ms", "--jobs", "2")
    return out


@pytest.fixture(scope="session")
def submitted(toy_study, tmp_path_factory):
    """A git checkout whose results/ verifies; its runs name its own first commit."""
    root = tmp_path_factory.mktemp("checkout")
    rows.git(root, "init", "--quiet", "-b", "main")
    rows.copy_code(root)
    rows.git(root, "add", "protocols")
    rows.git(root, "commit", "--quiet", "-m", "code")
    commit, results = rows.git(root, "rev-parse", "HEAD"), root / "results"
    results.mkdir()
    marks = "<!-- leaderboard: made by `verify --rebuild` -->\n<!-- end of leaderboard -->"
    (results / "README.md").write_text(f"# Results\n\n{marks}\n")
    assert rows.submit(toy_study, results) == 0
    (root / "claim.toml").unlink()

    def clean(body):  # whatever the state of the checkout that the tests run in
        body["environment"].update(commit=commit, dirty=False)

    for path in results.rglob("seed-*.json"):
        rows.edit(path, clean)
    assert main(["verify", str(results), "--rebuild"]) == 0
    rows.git(root, "add", "-A")
    rows.git(root, "commit", "--quiet", "-m", "rows")
    return root


@pytest.fixture
def results(submitted, tmp_path):
    """A copy of the valid results folder with its history, to plant faults in."""
    shutil.copytree(submitted, tmp_path / "checkout")
    return tmp_path / "checkout" / "results"
